import subprocess
import sys
from pathlib import Path

import keras
import pytest
import typer
from typer.testing import CliRunner

from ct3d_edge.cli.train import train
from ct3d_edge.cli.training_options import epoch_line
from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.extras import pip_install_command
from ct3d_edge.training.history import EpochDone, EpochRecord

from .conftest import FolderMaker

APP = typer.Typer()
APP.command()(train)


def _linear(*size: int) -> keras.Model:
    layers = [keras.Input((*size, 1)), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    return keras.Sequential(layers)


@pytest.fixture(autouse=True)
def quick_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ct3d_edge.training.network.NetworkSpec.build", lambda _, *size: _linear(*size))
    # Set here so that what the command sets does not outlive the test.
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")


def _fresh_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_options_reach_the_run(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder, out = make_folder("CT-0", "CT-23"), tmp_path / "run"
    options = "--shape 6 7 8 --epochs 2 --batch-size 3 --seed 4 --validation 0.5 --labels well,ill"
    arguments = [str(folder), "--out", str(out), *options.split(), "--orientation", "RAS"]
    result = CliRunner().invoke(APP, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    contract = Contract.from_json((out / "contract.json").read_text())
    assert (contract.shape, contract.labels, contract.orientation) == ((6, 7, 8), ("well", "ill"), "RAS")
    assert "model.keras:weightsofepoch" in "".join(result.stdout.split())
    assert "on 4 scans" in result.stdout
    lines = result.stderr.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


def test_the_tutorial_and_what_is_changed_of_it(make_folder: FolderMaker, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["--preset", "tutorial", "--augment", "none", "--shape", "6", "6", "6", "--epochs", "1"]
    result = CliRunner().invoke(APP, [str(make_folder("a", "b")), "--out", str(out), *options], catch_exceptions=False)
    assert result.exit_code == 0
    assert "not calibrated" in result.stdout
    again = CliRunner().invoke(APP, [str(make_folder("a", "b")), "--out", str(out), *options, "--resume"])
    assert "That run is complete" in str(again.exception)


def test_errors_of_the_library_pass_through(make_folder: FolderMaker, tmp_path: Path) -> None:
    arguments = [str(make_folder("a", "b")), "--out", str(tmp_path / "run"), "--labels", "one"]
    result = CliRunner().invoke(APP, arguments)
    assert isinstance(result.exception, UsageError)


def test_flags_are_told(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("a", "b")
    scan = folder / "a" / "study_00.nii.gz"
    scan.rename(scan.with_name("study_00.nii"))
    arguments = [str(folder), "--out", str(tmp_path / "run"), "--shape", "6", "6", "6", "--epochs", "1"]
    result = CliRunner().invoke(APP, arguments, catch_exceptions=False)
    assert "1 of 8 scans: extension_mismatch" in result.stdout


def test_epoch_line() -> None:
    record = EpochRecord(2, 0.61234, 0.75, 0.8, 0.7, 0.5, 0.625, 12.34, 1e-4)
    assert epoch_line(EpochDone(record, 10, best=True, elapsed=30.0)) == (
        "epoch 2/10  loss 0.6123  accuracy 0.750  val_loss 0.7000  val_accuracy 0.500  val_auc 0.625  12.3 s  "
        "ETA 0:02:00  best so far"
    )
    assert epoch_line(EpochDone(record, 2, best=False, elapsed=30.0)).endswith("ETA 0:00:00")


def test_importing_the_command_loads_neither_keras_nor_tensorflow() -> None:
    code = "import sys, ct3d_edge.cli.train; print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    assert _fresh_python(code).strip() == "[]"


@pytest.mark.parametrize("missing", ["keras", "tensorflow"])
def test_a_missing_extra_is_named(missing: str) -> None:
    code = f"""
import sys
from pathlib import Path
from ct3d_edge.cli.train import train
from ct3d_edge.errors import MissingExtraError
sys.modules[{missing!r}] = None
try:
    train(Path("a"), out=Path("b"))
except MissingExtraError as error:
    print(error)
"""
    expected = f"This command needs {missing}, not installed here: {pip_install_command('train')}"
    assert _fresh_python(code).strip() == expected
