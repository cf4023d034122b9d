"""What `infer` says besides its records: remarks below the table, suggestions, advice."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders import DOWNGRADE_ALL, MakeModel, MakeScan
from numpy.typing import NDArray

from ct3d_edge.extras import pip_install_command

from .conftest import Run


def test_answers_are_compared_with_the_class_folders(
    run: Run, make_scan: MakeScan, make_model: MakeModel, hu: NDArray[np.int16], tmp_path: Path
) -> None:
    for number, name in enumerate(("normal", "abnormal")):
        make_scan(f"{name}.nii", voxels=(hu + number).astype(np.int16), folder=tmp_path / "scans" / name)
    outcome = run("infer", tmp_path / "scans", "--model", make_model(), "--format", "jsonl")
    right = [Path(scan["scan"]).stem == scan["label"] for scan in map(json.loads, outcome.out.splitlines())]
    assert f"{sum(right)} of 2 predictions right by class folder (normal " in outcome.err
    alone = run("infer", tmp_path / "scans" / "normal", "--model", make_model())
    assert "by class folder" not in alone.err


@pytest.mark.parametrize(("slices", "suggested"), [(2, False), (3, False), (4, True), (7, True)])
def test_allowing_is_suggested_only_where_it_helps(
    run: Run, make_scan: MakeScan, make_model: MakeModel, hu: NDArray[np.int16], slices: int, suggested: bool
) -> None:
    outcome = run("infer", make_scan(voxels=hu[:, :, :slices]), "-m", make_model(), "-p", "cpu")
    assert outcome.code == 1
    assert ("to predict them anyway: --downgrade-check too_few_slices" in outcome.err) == suggested


def test_all_that_stands_in_the_way_of_an_answer_is_suggested(
    run: Run, make_scan: MakeScan, make_model: MakeModel, hu: NDArray[np.int16]
) -> None:
    scan, model = make_scan(voxels=np.full((24, 20, 6), 40, np.int16)), make_model()
    outcome = run("infer", scan, "-m", model, "-p", "cpu")
    (line,) = (line for line in outcome.err.splitlines() if line.startswith("to predict them anyway: "))
    options = line.removeprefix("to predict them anyway: ").split()
    assert options == ["--downgrade-check", "too_few_slices", "--downgrade-check", "intensity_not_hu"]
    assert run("infer", scan, "-m", model, "-p", "cpu", *options).code == 0


def test_the_remark_about_the_demonstration_model_stands_once_below_the_table(
    run: Run, make_scan: MakeScan, hu: NDArray[np.int16]
) -> None:
    scans = [make_scan(f"{number}.nii", voxels=hu.repeat(4, 0).repeat(4, 1) + number) for number in range(3)]
    outcome = run("infer", *scans, "-p", "cpu")
    assert outcome.out.count("demonstration_model") == 1
    assert outcome.out.splitlines()[-1].startswith("demonstration_model: This model was trained on synthetic phantoms")
    assert run("infer", scans[0], "-p", "cpu").out.count("demonstration_model") == 1


@pytest.mark.parametrize(("columns", "width"), [(None, 80), ("100", 100), ("60", 60), ("nonsense", 80)])
def test_a_table_in_a_pipe_is_as_wide_as_columns_says(
    run: Run, make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch, columns: str | None, width: int
) -> None:
    if columns is None:
        monkeypatch.delenv("COLUMNS")
    else:
        monkeypatch.setenv("COLUMNS", columns)
    scans = [make_scan(f"{number}{'a' * 120}{number}.nii") for number in "12"]
    out = run("infer", *scans, "-p", "cpu").out
    assert width - 2 <= max(map(len, out.splitlines())) <= width


def test_a_long_run_without_tuning_names_the_command_where_it_pays(
    run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        make_scan(f"{number:02}.nii.gz", folder=tmp_path / "scans")
    command = ("infer", tmp_path / "scans", "-m", make_model(), *DOWNGRADE_ALL)
    for features, named in (({"VNNI": True, "AMX": True}, True), ({"VNNI": False, "AMX": False}, False), (None, False)):
        monkeypatch.setattr("ct3d_edge.system.machine.detect_cpu_features", lambda found=features: found)
        outcome = run(*command)
        if "provider cpu" in outcome.err:
            advice = "this CPU has AMX and VNNI; a faster way may be found by:\n"
            assert (advice in outcome.err) == named
            assert (f"  ct3d-edge tune --model {command[3]} --allow-precision any\n" in outcome.err) == named
            assert "a faster way" not in run(*command[:2], *command[4:]).err, (
                "nothing can stand beside the bundled model"
            )


def test_the_advice_to_tune_names_the_extra_that_it_needs(
    run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        make_scan(f"{number:02}.nii.gz", folder=tmp_path / "scans")
    monkeypatch.setattr("ct3d_edge.system.machine.detect_cpu_features", lambda: {"VNNI": True})
    monkeypatch.setattr("ct3d_edge.cli.tune.has_modules", lambda _: False)
    outcome = run("infer", tmp_path / "scans", "-m", make_model(), *DOWNGRADE_ALL)
    if "provider cpu" in outcome.err:
        assert f"  {pip_install_command('optimize')}\n" in outcome.err


def test_answers_of_the_shipped_model_are_marked(
    run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path
) -> None:
    run("infer", make_scan(), "--provider", "cpu", "--out", tmp_path / "shipped.jsonl")
    run("infer", make_scan(), "--model", make_model(), "--out", tmp_path / "own.jsonl")
    shipped, own = (json.loads((tmp_path / f"{name}.jsonl").read_text()) for name in ("shipped", "own"))
    assert (shipped["status"], shipped["flags"][0]["code"]) == ("warn", "demonstration_model")
    assert (own["status"], own["flags"]) == ("ok", [])
