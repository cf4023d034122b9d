"""What `tune` chose is what every command and the library run."""

from pathlib import Path

import pytest
from builders import ANY_SCAN, MakeScan
from graded import graded_folder

from ct3d_edge.evaluation.evaluation import evaluate
from ct3d_edge.inference.config import InferenceConfig, open_runner
from ct3d_edge.inference.load_model import load_model
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.tuning.cache import tuned_model_path

from .conftest import MakeChoice


@pytest.fixture
def tuned(given: ModelFile, wrong: ModelFile, make_choice: MakeChoice) -> ModelFile:
    """A file with other weights as the choice for ``given``, so that it shows which one runs."""
    make_choice(given.path, threads=1, file_sha256=wrong.sha256)
    wrong.path.rename(tuned_model_path(given.path, "cpu"))
    return wrong


def test_the_library_runs_the_tuned_file(given: ModelFile, tuned: ModelFile, make_scan: MakeScan) -> None:
    with load_model(given.path, "cpu") as model, load_model(given.path, "cpu", use_tuning=False) as plain:
        assert (model.run_report.model_sha256, plain.run_report.model_sha256) == (tuned.sha256, given.sha256)
        assert (model.run_report.tuned, plain.run_report.tuned) == (True, False)
        assert model.predict(make_scan()).model_sha256 == tuned.sha256


def test_what_verify_checks_is_what_runs(given: ModelFile, tuned: ModelFile) -> None:
    with open_runner(given.path, InferenceConfig("cpu")) as runner:
        assert (runner.model.sha256, runner.run_report.threads) == (tuned.sha256, 1)


def test_figures_are_those_of_the_file_that_runs(given: ModelFile, tuned: ModelFile, folder: Path) -> None:
    found = evaluate(given.path, folder, config=ANY_SCAN, resamples=100)
    alone = evaluate(tuned_model_path(given.path, "cpu"), folder, config=ANY_SCAN, resamples=100)
    assert (found.model_sha256, found.model) == (tuned.sha256, tuned_model_path(given.path, "cpu"))
    assert [scan.probability for scan in found.scans] == [scan.probability for scan in alone.scans]


@pytest.fixture
def folder(make_scan: MakeScan, tmp_path: Path) -> Path:
    """Two classes of scans."""
    return graded_folder(make_scan, tmp_path / "data", normal=[100, 200], abnormal=[-900, -700])
