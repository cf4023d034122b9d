"""Small contests between real peers, each in its process, on a tiny network."""

import importlib
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from networks import KERAS, tiny_network

from bench.comparison import PeerComparison
from bench.fixture import KINDS, Fixture
from bench.peer_process import PeerFailed, PeerProcess
from bench.peer_worker import max_difference
from bench.peers import ours
from bench.plan import load_plan
from ct3d_edge.latency.record import BenchRecord, read_record

HEAD = """
question = "which?"
threads = 1
groups = 2
rounds = 2
warmup = 1
[tolerance]
network = 1e-5
preprocessing = 5e-5
"file to decision" = 1e-4
"""
SHAPE = (16, 12, 8)

needs_keras = pytest.mark.skipif(not KERAS, reason="the extra 'train' is not installed")
needs_all = pytest.mark.skipif(
    not all(map(find_spec, ("torch", "openvino", "monai", "torchio"))), reason="PyTorch and other peers not installed"
)
pytestmark = [needs_keras, pytest.mark.slow]


@pytest.fixture(scope="module")
def fixture(tmp_path_factory: pytest.TempPathFactory) -> Fixture:
    """A tiny network's files, a small phantom to judge."""
    from bench.make_fixture import make_fixture
    from ct3d_edge.datasets.phantoms.phantom import make_phantom, save_scan

    folder = tmp_path_factory.mktemp("contest")
    tiny_network((*SHAPE, 1)).save(folder / "tiny.keras")
    save_scan(make_phantom(1, abnormal=True, shape=(24, 24, 10)), folder / "scan.nii.gz")
    return make_fixture(folder / "fixture", folder / "tiny.keras", [folder / "scan.nii.gz"])


def plan_of(folder: Path, *entries: str, head: str = HEAD) -> Path:
    path = folder / "plan.toml"
    path.write_text(head + "".join(f"[[contestant]]\n{entry}\n" for entry in entries))
    return path


def held(path: Path, fixture: Fixture) -> BenchRecord:
    return PeerComparison(load_plan(path), path, fixture).run()


def test_all_kinds_run_in_turn_and_answer_alike(fixture: Fixture, tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        'name = "plain"\nnetwork = { peer = "onnx_plain" }',
        'name = "small, in twos"\nnetwork = { peer = "ours", file = "small" }\nbatch = 2',
        'name = "ours"\npreprocessing = { peer = "ours" }',
        'name = "ours"\npreprocessing = { peer = "ours" }\nnetwork = { peer = "ours" }\nours = true',
        'name = "inside"\npreprocessing = { peer = "stored_voxels" }\nnetwork = { peer = "stored_voxels" }',
    )
    record = held(plan, fixture)
    assert {key: len(taken) for key, taken in record.samples.counted.items()} == {
        "network: plain": 4,
        "network: small, in twos": 4,
        "preprocessing: ours": 4,
        "file to decision: ours": 4,
        "file to decision: inside": 4,
    }
    assert record.arrangement == "in turn"
    assert record.incomplete is None
    assert not record.conditions["left_out"]
    assert 0 < record.conditions["contestants"]["network: plain"]["difference"] < 1e-5
    assert record.conditions["contestants"]["network: plain"]["versions"]["tf2onnx"]
    assert all((value or 0) > 1e6 for value in record.resources.values())
    record.save(tmp_path / "record.json")
    assert read_record(tmp_path / "record.json").samples == record.samples


def test_who_cannot_take_part_is_named_and_the_others_run(fixture: Fixture, tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        'name = "no such peer"\nnetwork = { peer = "nobody" }',
        'name = "no such file"\nnetwork = { peer = "onnx_plain", file = "none" }',
        'name = "held to nothing"\nnetwork = { peer = "onnx_plain" }\ntolerance = 1e-30',
        'name = "plain"\nnetwork = { peer = "onnx_plain" }',
    )
    record = held(plan, fixture)
    assert list(record.samples.counted) == ["network: plain"]
    reasons = record.conditions["left_out"]
    assert "there is no bench/peers/nobody.py" in reasons["network: no such peer"]
    assert (
        "there are: exact, exact_fp16, exact_int8, fast, fast_fp16, fast_int8, "
        "openvino, openvino_int8, small, tf2onnx, voxels" in reasons["network: no such file"]
    )
    assert "differ from the expected ones by" in reasons["network: held to nothing"]


def test_another_model_of_the_project_gets_a_corner_of_each_volume(tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).random((1, 128, 128, 64), np.float32)
    light = ours.network(Fixture(tmp_path), 1, model="phantom-light.onnx")
    np.testing.assert_array_equal(light(volumes), light(volumes[:, :96, :96]))


@pytest.mark.skipif(find_spec("openvino") is not None, reason="OpenVINO is installed")
def test_a_peer_that_is_not_installed_is_left_out_by_name(fixture: Fixture, tmp_path: Path) -> None:
    record = held(plan_of(tmp_path, 'name = "OpenVINO"\nnetwork = { peer = "openvino_runtime" }'), fixture)
    assert record.conditions["left_out"] == {"network: OpenVINO": "not installed here: openvino"}


def test_who_fails_in_the_middle_keeps_its_runs_and_the_record_says_so(
    fixture: Fixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(
        tmp_path,
        'name = "dies"\nnetwork = { peer = "onnx_plain" }',
        'name = "lives"\nnetwork = { peer = "onnx_plain" }',
    )
    run, turns = PeerProcess.run, [0]

    def killed_in_its_third_turn(self: PeerProcess, question: int) -> float:
        turns[0] += 1
        if turns[0] == 5:
            self._process.kill()
            self._process.wait()
        return run(self, question)

    monkeypatch.setattr(PeerProcess, "run", killed_in_its_third_turn)
    record = held(plan, fixture)
    assert sorted(map(len, record.samples.counted.values())) == [1, 4]
    assert record.arrangement == "blocks"
    assert record.incomplete is not None
    assert "failed (its process ended with code -9" in record.incomplete
    record.save(tmp_path / "record.json")
    assert read_record(tmp_path / "record.json").incomplete == record.incomplete


def test_a_process_that_ends_early_leaves_its_last_words(tmp_path: Path) -> None:
    entrant = PeerProcess((str(tmp_path), str(tmp_path / "none.toml"), "nobody"), 1)
    try:
        with pytest.raises(PeerFailed, match=r"its process ended with code 1: .*cannot be read"):
            entrant.wait_until_ready()
    finally:
        entrant.close()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux tells the CPU time of another process")
def test_a_contestants_cpu_time_belongs_to_the_contest(fixture: Fixture, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, 'name = "plain"\nnetwork = { peer = "onnx_plain" }')
    before = children_seconds()
    entrant = PeerProcess((str(fixture.folder), str(plan), "network: plain"), 1)
    try:
        entrant.wait_until_ready()
        alive = entrant.cpu_seconds()
    finally:
        entrant.close()
    waited_for = children_seconds() - before
    assert 0.5 * waited_for < alive <= waited_for + 0.05
    assert entrant.cpu_seconds() == 0
    contest = PeerComparison(load_plan(plan), plan, fixture)
    seen = contest.run().surroundings
    assert seen[-1].own_s - seen[0].own_s > alive
    assert [snapshot.own_s for snapshot in seen] == sorted(snapshot.own_s for snapshot in seen)


def children_seconds() -> float:
    times = os.times()
    return times.children_user + times.children_system


def test_answers_of_another_shape_or_not_a_number_are_infinitely_far() -> None:
    wanted = [np.zeros((1, 1), np.float32)]
    assert max_difference([np.zeros((1, 2), np.float32)], wanted) == np.inf
    assert max_difference([np.full((1, 1), np.nan, np.float32)], wanted) == np.inf
    assert max_difference([np.full((1, 1), 0.25, np.float32)], wanted) == 0.25


@needs_all
def test_every_peer_of_the_plan_answers_alike(fixture: Fixture) -> None:
    plan_file = Path(__file__).parents[2] / "bench" / "plans" / "peers.toml"
    record = PeerComparison(load_plan(plan_file), plan_file, fixture).run(dry=True)
    assert not record.conditions["left_out"]
    assert record.incomplete is None


def test_every_peer_says_what_it_needs() -> None:
    for path in (Path(__file__).parents[2] / "bench" / "peers").glob("[a-z]*.py"):
        peer = importlib.import_module(f"bench.peers.{path.stem}")
        assert peer.NEEDS
        assert peer.PACKAGES
        assert hasattr(peer, "network") or hasattr(peer, "preprocessing")


def test_the_last_network_input_is_one_that_the_network_is_unsure_of(fixture: Fixture) -> None:
    unsure = fixture.answers(KINDS[0])[-1, 0]
    others = fixture.answers(KINDS[0])[:-1, 0]
    assert abs(unsure - 0.5) <= min(abs(others - 0.5))
