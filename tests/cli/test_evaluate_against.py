import json
from pathlib import Path

import onnx
import pytest
from builders import DOWNGRADE_ALL, MakeModel, MakeScan
from graded import BRIGHT, DARK, THRESHOLD, graded_folder, graded_run
from networks import KERAS

from ct3d_edge.modelfile.model_file import PROVENANCE_KEY

from .conftest import Run

QUICK = ("--provider", "cpu", "--resamples", "100", *DOWNGRADE_ALL)
NO_PROVIDER = QUICK[2:]


@pytest.fixture
def folder(make_scan: MakeScan, tmp_path: Path) -> Path:
    levels = {"normal": [BRIGHT, 100, 50, DARK - 20], "abnormal": [DARK, -800, -850, BRIGHT + 20]}
    return graded_folder(make_scan, tmp_path / "data", **levels)


@pytest.fixture
def model(make_model: MakeModel) -> Path:
    return make_model(threshold=THRESHOLD)


@pytest.fixture
def other(make_model: MakeModel) -> Path:
    """Ranks alike, and decides at another threshold."""
    return make_model("other.onnx", threshold=0.44)


def test_prints_the_evaluation_then_both_models_side_by_side(run: Run, model: Path, other: Path, folder: Path) -> None:
    outcome = run("evaluate", "--model", model, folder, "--against", other, *QUICK)
    assert outcome.code == 0
    alone, both = outcome.out.split("model  reference  difference")
    assert "baseline" in alone
    assert f"reference          {other}" in alone
    assert "Both decide alike on" in both
    assert both.rstrip().endswith("both intervals of the difference are above -0.02.")


def test_json_holds_the_comparison(run: Run, model: Path, other: Path, folder: Path) -> None:
    outcome = run("evaluate", "--model", model, folder, "--against", other, *QUICK, "--json")
    data = json.loads(outcome.out)
    assert data["comparison"]["reference"]["model"]["file"] == str(other)
    assert "WARNING: Both models rank these scans alike" in outcome.err


def test_writes_the_page_too(run: Run, model: Path, other: Path, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    outcome = run("evaluate", "--model", model, folder, "--against", other, *QUICK, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert (tmp_path / "out" / "comparison.html").read_text().startswith("<!doctype html>")


def test_the_gate_is_exit_code_4_after_the_figures(run: Run, model: Path, other: Path, folder: Path) -> None:
    arguments = ("evaluate", "--model", model, folder, "--against", other, *QUICK, "--require-non-inferior")
    assert run(*arguments).code == 0
    outcome = run(*arguments, "--margin", "0")
    assert outcome.code == 4
    assert "Both decide alike on" in outcome.out
    assert "is not shown to be non-inferior" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("--require-non-inferior",), 2, "belong to --against MODEL"),
        (("--record",), 2, "belong to --against MODEL"),
        (("--against", "nowhere"), 2, "nowhere does not exist"),
        (("--against", "tiny.onnx", "--margin", "1.5"), 2, "found --margin 1.5"),
        (("--against", "tiny.onnx", "--record"), 2, "is no training run"),
        (("--against", "labels.onnx"), 3, "models are compared on the same classes"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(
    run: Run,
    model: Path,
    make_model: MakeModel,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    reason: str,
) -> None:
    make_model("labels.onnx", labels=("healthy", "ill"))
    monkeypatch.chdir(model.parent)
    outcome = run("evaluate", "--model", model.name, folder, *arguments, *QUICK)
    assert outcome.code == code
    assert reason in outcome.err


@pytest.mark.slow
@pytest.mark.skipif(not KERAS, reason="needs the extra 'train'")
def test_a_recorded_comparison_travels_into_the_file_and_inspect_prints_it(
    run: Run, model: Path, folder: Path, tmp_path: Path
) -> None:
    training_run = graded_run(folder, tmp_path / "run")
    split = training_run / "split.json"
    outcome = run(
        "evaluate", "--model", training_run, folder, "--split", split, "--against", model, "--record", *NO_PROVIDER
    )
    assert outcome.code == 0
    assert f"wrote {training_run / 'comparison.json'}" in outcome.err
    exported = tmp_path / "exported.onnx"
    assert run("export", "--model", training_run, "--out", exported).code == 0
    line = next(line for line in run("inspect", "--model", exported).out.splitlines() if line.startswith("comparison"))
    assert "compared with " in line
    smaller = tmp_path / "smaller.onnx"
    assert run("optimize", "--model", exported, "--out", smaller, "--optimize", "exact").code == 0
    assert line in run("inspect", "--model", smaller).out
    (training_run / "model.keras").write_bytes((training_run / "model.keras").read_bytes() + b" ")
    outcome = run("export", "--model", training_run, "--out", exported)
    assert "is of another model" in outcome.err
    assert not [line for line in run("inspect", "--model", exported).out.splitlines() if line.startswith("comparison")]


def test_inspect_shows_what_is_wrong_with_an_unreadable_comparison(run: Run, model: Path) -> None:
    proto = onnx.load(model)
    (entry,) = [entry for entry in proto.metadata_props if entry.key == PROVENANCE_KEY]
    entry.value = json.dumps({"comparison": {"schema": 9}})
    onnx.save(proto, model)
    outcome = run("inspect", "--model", model)
    assert outcome.code == 0
    assert "comparison          The comparison has schema 9" in outcome.out
