"""What commands print fits a terminal of 80 columns."""

from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from .conftest import Run

WIDTH = 80


@pytest.fixture
def folder(tmp_path: Path, make_scan: MakeScan, hu: NDArray[np.int16]) -> Path:
    """Two classes of scans with long names, and a broken one."""
    for number in range(6):
        label = ("normal", "abnormal")[number % 2]
        name = f"{number}_{'patient_' * 12}{number}.nii.gz"
        make_scan(name, voxels=(hu + 40 * number).astype(np.int16), folder=tmp_path / "scans" / label)
    return tmp_path / "scans"


@pytest.mark.parametrize(
    "arguments",
    [
        ["infer", "{folder}", "-m", "{model}", "-p", "cpu"],
        ["infer", "{folder}", "-p", "cpu"],
        ["check", "{folder}"],
        ["check", "{scan}"],
        ["inspect", "-m", "{model}"],
        ["verify", "-m", "{model}", "-p", "cpu"],
        ["evaluate", "-m", "{model}", "{folder}", "-p", "cpu", "--resamples", "100"],
        ["doctor"],
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_standard_output_fits(
    run: Run, monkeypatch: pytest.MonkeyPatch, folder: Path, make_model: MakeModel, arguments: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.chdir(folder.parent)
    places = {
        "folder": "scans",
        "scan": str(next((folder / "normal").iterdir()).relative_to(folder.parent)),
        "model": str(make_model("model.onnx").relative_to(folder.parent)),
    }
    lines = run(*(argument.format(**places) for argument in arguments)).out.splitlines()
    assert lines
    assert [line for line in lines if len(line) > WIDTH and "pip install" not in line] == []
