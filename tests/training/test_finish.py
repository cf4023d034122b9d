import json
from dataclasses import replace
from pathlib import Path

import keras
import pytest

from ct3d_edge.contract import Contract
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.temperature_scaling import ThresholdRule, fit_operating_point
from ct3d_edge.training.artifacts import TrainedRun
from ct3d_edge.training.fit import train

from .conftest import FolderMaker, plain

TINY = (6, 6, 6)


@pytest.fixture(params=["uniform", "zeros"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """First weights of a logistic regression; with zeros, and a learning rate of nothing, all scans look the same."""

    def build(*size: int) -> keras.Model:
        head = keras.layers.Dense(1, activation="sigmoid", kernel_initializer=request.param)
        return keras.Sequential([keras.Input((*size, 1)), keras.layers.Flatten(), head])

    monkeypatch.setattr("ct3d_edge.training.network.NetworkSpec.build", lambda _, *size: build(*size))
    return str(request.param)


def _expected(run: TrainedRun, folder: Path) -> Contract:
    """The same from the files of the run."""
    network = keras.saving.load_model(run.model, compile=False)
    plain_contract = replace(run.contract, temperature=1.0, threshold=0.5)
    scores, truth = [], []
    for entry in run.split.validation:
        volume = preprocess(read_nifti(folder / entry.path), plain_contract).volume
        scores.append(float(network.predict(volume[None, ..., None], verbose=0)[0, 0]))
        truth.append(run.split.label_of(entry))
    return fit_operating_point(plain_contract, scores, truth, ThresholdRule())


def test_a_run_fits_temperature_and_threshold_on_its_validation_scans(
    make_folder: FolderMaker, tmp_path: Path, kernel: str
) -> None:
    folder = make_folder("a", "b", count=8)
    run = train(folder, tmp_path / "run", plain(calibrate=True, learning_rate=1e-12), size=TINY)
    assert json.loads((run.folder / "contract.json").read_text()) == json.loads(run.contract.to_json())
    if kernel == "zeros":
        assert (run.contract.temperature, run.contract.threshold) == (1, 0.5)
        assert "the same score" in run.calibration
    else:
        expected = _expected(run, folder)
        assert run.contract.temperature == pytest.approx(expected.temperature, rel=1e-3)
        assert run.contract.threshold == pytest.approx(expected.threshold, abs=1e-5)
        assert run.calibration.startswith("calibrated on the 4 validation scans: temperature")


def test_the_tutorial_leaves_the_contract_alone(make_folder: FolderMaker, tmp_path: Path, kernel: str) -> None:
    run = train(make_folder("a", "b"), tmp_path / "run", plain(), size=TINY)
    assert (run.contract.temperature, run.contract.threshold) == (1, 0.5)
    assert run.calibration.startswith("not calibrated")
