from pathlib import Path

import pytest

from bench.plan import PeerPart, load_plan
from ct3d_edge.errors import UsageError

PLANS = Path(__file__).parents[2] / "bench" / "plans"
HEAD = 'question = "which?"\nthreads = 1\ngroups = 1\nrounds = 1\nwarmup = 0\n[tolerance]\nnetwork = 1e-5\n'
ENTRY = '[[contestant]]\nname = "one"\nnetwork = { peer = "ours", file = "fast" }\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


def test_a_contestants_kind_follows_from_its_parts(tmp_path: Path) -> None:
    both = '[[contestant]]\nname = "two"\npreprocessing = { peer = "tutorial" }\nnetwork = { peer = "ours" }\n'
    plan = load_plan(write(tmp_path, HEAD + '"file to decision" = 1e-4\n' + ENTRY + both))
    assert [entry.kind for entry in plan.contestants] == ["network", "file to decision"]
    assert plan.contestants[0].network == PeerPart("ours", {"file": "fast"})
    assert [entry.name for entry in plan.of_kind("network")] == ["one"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question = ", "is not TOML"),
        (HEAD, "needs contestants"),
        (HEAD + ENTRY + ENTRY, "two contestants are called 'network: one'"),
        (HEAD + ENTRY + "colour = 1\n", "unknown fields colour"),
        (HEAD + '[[contestant]]\nname = "idle"\n', "'idle' does neither"),
        (HEAD.replace("groups = 1\n", "") + ENTRY, "groups"),
        (HEAD.replace("rounds = 1", "rounds = 0") + ENTRY, "at least 1"),
        (HEAD.replace("network = 1e-5", "") + ENTRY, "does not say how much may differ for: network"),
        (HEAD + ENTRY + 'precision = "bf16"\n', r"\[reduced_tolerance\] has no entry for: bf16"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_with_a_reason(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_plan(write(tmp_path, text))


def test_each_precision_has_a_tolerance_and_a_contestant_may_have_its_own(tmp_path: Path) -> None:
    head = HEAD + "[reduced_tolerance]\nbf16 = 1e-2\n"
    other = ENTRY.replace("one", "second") + 'precision = "bf16"\n'
    plan = load_plan(write(tmp_path, head + ENTRY + other + other.replace("second", "third") + "tolerance = 0.5\n"))
    assert [plan.tolerance_of(entry) for entry in plan.contestants] == [1e-5, 1e-2, 0.5]


def test_a_plan_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml cannot be read"):
        load_plan(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["peers.toml", "gpu.toml", "int8.toml"])
def test_the_plans_of_the_project_name_peers_that_exist(name: str) -> None:
    plan = load_plan(PLANS / name)
    parts = [part for entry in plan.contestants for part in (entry.preprocessing, entry.network) if part]
    assert {part.peer for part in parts} <= {path.stem for path in (PLANS.parent / "peers").glob("*.py")}
    assert any(entry.ours for entry in plan.contestants)
