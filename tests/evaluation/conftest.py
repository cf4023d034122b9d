"""Folders of graded scans, a tiny model that grades them, a training run made by hand."""

from pathlib import Path

import pytest
from builders import MakeModel, MakeScan
from graded import BRIGHT, DARK, THRESHOLD, GradedFolder, graded_folder, graded_run
from networks import KERAS

# The root conftest says so aloud.
collect_ignore_glob = [] if KERAS else ["test_fit_temperature.py", "test_keras.py", "test_files.py"]


@pytest.fixture
def graded(make_scan: MakeScan, tmp_path: Path) -> GradedFolder:
    """``graded("name", normal=[200, 100], abnormal=[-900])``: a folder with a scan of each level in HU."""

    def make(name: str = "data", **classes: list[int]) -> Path:
        return graded_folder(make_scan, tmp_path / name, **classes)

    return make


@pytest.fixture
def folder(graded: GradedFolder) -> Path:
    """Six scans; the model is wrong about the last of each class."""
    return graded(normal=[BRIGHT, 100, DARK - 20], abnormal=[DARK, -800, BRIGHT + 20])


@pytest.fixture
def model(make_model: MakeModel) -> Path:
    """A .onnx file that calls dark scans abnormal."""
    return make_model(threshold=THRESHOLD)


@pytest.fixture
def scans(graded: GradedFolder) -> Path:
    """Twelve scans a class, brighter ones abnormal, with some overlap."""
    return graded("scans", normal=[-950 + 60 * n for n in range(12)], abnormal=[-550 + 60 * n for n in range(12)])


@pytest.fixture
def run(scans: Path, tmp_path: Path) -> Path:
    """A training run on ``scans``: model.keras, contract.json, split.json with six of a class for validation."""
    return graded_run(scans, tmp_path / "run")
