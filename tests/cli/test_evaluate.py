import json
from pathlib import Path

import pytest
from builders import DOWNGRADE_ALL, MakeModel, MakeScan
from graded import BRIGHT, DARK, THRESHOLD, graded_folder, graded_run
from networks import KERAS

from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.split_file import write_split

from .conftest import Run

QUICK = ("--provider", "cpu", "--resamples", "100", *DOWNGRADE_ALL)


@pytest.fixture
def folder(make_scan: MakeScan, tmp_path: Path) -> Path:
    levels = {"normal": [BRIGHT, 100, 50, DARK - 20], "abnormal": [DARK, -800, -850, BRIGHT + 20]}
    return graded_folder(make_scan, tmp_path / "data", **levels)


@pytest.fixture
def model(make_model: MakeModel) -> Path:
    return make_model(threshold=THRESHOLD)


@pytest.fixture
def training_run(folder: Path, tmp_path: Path) -> Path:
    if not KERAS:
        pytest.skip("needs the extra 'train'")
    return graded_run(folder, tmp_path / "run")


def test_prints_figures_with_their_baseline(run: Run, model: Path, folder: Path) -> None:
    outcome = run("evaluate", "--model", model, folder, *QUICK)
    assert outcome.code == 0
    assert outcome.out.startswith("WARNING: Few scans")
    assert "6 of 8 right\n" in outcome.out
    assert "always predicting normal" in outcome.out
    assert "normal counts as normal, abnormal counts as abnormal" in outcome.out
    assert "100 resamples" in outcome.out


def test_json_is_for_programs_and_warnings_for_people(run: Run, model: Path, folder: Path) -> None:
    outcome = run("evaluate", "--model", model, folder, *QUICK, "--json")
    data = json.loads(outcome.out)
    assert data["figures"]["accuracy"]["count"] == 6
    assert len(data["scans"]) == 8
    assert "WARNING: Few scans" in outcome.err


def test_writes_its_files(run: Run, model: Path, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = tmp_path / "new" / "folder"
    outcome = run("evaluate", "--model", model, folder, *QUICK, "--out", out)
    assert outcome.code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "evaluation.json",
        "reliability.png",
        "roc.png",
        "scans.csv",
    ]
    assert f"wrote {out / 'evaluation.json'}" in outcome.err


def test_a_split_names_the_part(run: Run, model: Path, folder: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    write_split(split, create_split(folder, validation=0.25, test=0.5))
    outcome = run("evaluate", "--model", model, folder, "--split", split, *QUICK)
    assert outcome.code == 0
    assert f"test of {split}: 2 normal, 2 abnormal" in outcome.out
    outcome = run("evaluate", "--model", model, folder, "--split", split, "--subset", "train", *QUICK)
    assert "WARNING: These are training scans of every model of this split" in outcome.out


def test_a_model_that_answers_the_same_is_warned_of_first(run: Run, make_model: MakeModel, folder: Path) -> None:
    outcome = run("evaluate", "--model", make_model(temperature=100.0), folder, *QUICK)
    assert outcome.code == 0
    assert outcome.out.startswith("WARNING: The model predicts nearly the same for every scan")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "Name the folder with the two class folders"),
        (("data", "--subset", "validation"), 2, "A subset belongs to a split"),
        (("data", "--split", "missing.json"), 2, "split missing.json cannot be read"),
        (("nowhere",), 2, "nowhere is not there"),
        (("data", "--out", "taken"), 2, "Cannot make the folder taken"),
        (("data", "--skip-invalid", "--provider", "cuda"), 3, "Provider cuda cannot do the work here"),
        (("data", "--resamples", "99"), 2, "--resamples"),
    ],
)
def test_wrong_usage_is_a_sentence(
    run: Run,
    model: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    if "cuda" in arguments and Path("/dev/nvidia0").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    monkeypatch.chdir(folder.parent)
    Path("taken").touch()
    outcome = run("evaluate", "--model", model, *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert said in outcome.err


def test_a_bad_scan_stops_or_is_told(run: Run, model: Path, folder: Path) -> None:
    (folder / "normal" / "bad.nii.gz").touch()
    outcome = run("evaluate", "--model", model, folder, *QUICK)
    assert (outcome.code, outcome.out) == (2, "")
    assert "normal/bad.nii.gz" in outcome.err
    outcome = run("evaluate", "--model", model, folder, *QUICK, "--skip-invalid")
    assert outcome.code == 0
    assert "left out: normal/bad.nii.gz" in outcome.out


def test_three_classes_and_no_model_are_exit_code_3(run: Run, make_model: MakeModel, folder: Path) -> None:
    outcome = run("evaluate", "--model", make_model(labels=("a", "b", "c"), outputs=3), folder, *QUICK)
    assert outcome.code == 3
    assert "Only models of two classes" in outcome.err
    assert run("evaluate", "--model", folder / "none.onnx", folder).code == 3


def test_a_run_judged_on_its_own_scans_is_warned_of(run: Run, training_run: Path, folder: Path) -> None:
    outcome = run("evaluate", "--model", training_run, folder, "--resamples", "100", *DOWNGRADE_ALL)
    assert outcome.code == 0
    assert "WARNING: 4 of the 8 scans are validation scans of this model" in outcome.out
    assert f"To evaluate its test subset, give that split: {training_run / 'split.json'}" in outcome.out


def test_calibrate_export_and_evaluate_tell_the_same_story(
    run: Run, training_run: Path, folder: Path, tmp_path: Path
) -> None:
    outcome = run("fit-temperature", "--model", training_run, folder, "--threshold-method", "sensitivity=1")
    assert outcome.code == 0
    assert "optimistic" in outcome.out
    assert f"wrote {training_run / 'contract.json'}" in outcome.out
    contract = json.loads((training_run / "contract.json").read_text())
    assert contract["temperature"] != 1
    onnx = tmp_path / "run.onnx"
    assert run("export", "--model", training_run, "--out", onnx).code == 0
    assert run("verify", "--model", onnx).code == 0
    outcome = run("evaluate", "--model", onnx, folder, "--split", training_run / "split.json", *QUICK, "--json")
    told = json.loads(outcome.out)["model"]
    assert (told["temperature"], told["threshold"]) == (contract["temperature"], contract["threshold"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run.onnx", "data"), "export it again"),
        (("data", "data"), "is no training run"),
        (("run", "data", "--threshold-method", "f1"), "A rule is youden or"),
        (("run", "data", "--threshold-method", "sensitivity=2"), "above 0 and at most 1"),
        (("run", "nowhere"), "nowhere is not there"),
        (("run", "data", "--split", "missing.json"), "missing.json cannot be read"),
    ],
)
def test_calibrate_used_wrongly_is_a_sentence(
    run: Run, training_run: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(training_run.parent)
    before = (training_run / "contract.json").read_bytes()
    outcome = run("fit-temperature", "--model", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert (training_run / "contract.json").read_bytes() == before


def test_options_of_the_provider_reach_the_session(run: Run, model: Path, folder: Path) -> None:
    outcome = run("evaluate", "--model", model, folder, *QUICK, "--provider-option", "intra_op_num_threads=1")
    assert outcome.code == 0
    assert "1 thread)" in outcome.out.replace("\n", " ")
    wrong = run("evaluate", "--model", model, folder, *QUICK, "--device-id", 0)
    assert (wrong.code, "no devices to choose from" in wrong.err) == (2, True)


@pytest.mark.parametrize(
    ("command", "rest"), [("evaluate", ["."]), ("calibrate", ["."]), ("export", ["--out", "never.onnx"])]
)
def test_a_run_that_is_not_there_is_named_as_missing(run: Run, tmp_path: Path, command: str, rest: list[str]) -> None:
    outcome = run(command, "--model", tmp_path / "nowhere", *rest)
    assert outcome.code in (2, 3)
    assert "found" not in outcome.err
    assert "nowhere" in outcome.err
