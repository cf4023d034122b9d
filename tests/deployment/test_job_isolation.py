"""``job`` needs nothing but its input, its output and the model: no network, home, name of a user or capability."""

import json
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel
from deployment.isolation import ANY_UID, missing_privilege, run_isolated
from numpy.typing import NDArray

made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")

REASON = missing_privilege()
pytestmark = pytest.mark.skipif(REASON is not None, reason=f"cannot isolate a command: {REASON}")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that every user may write to, as mercure gives it."""
    folder = tmp_path / "out"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def test_mercures_strictest_settings_suffice(
    hu: NDArray[np.int16], make_model: MakeModel, tmp_path: Path, out: Path
) -> None:
    study = made.write_series(tmp_path / "in", hu, "1.2.3")
    (tmp_path / "models").mkdir()
    make_model("chest.onnx").rename(tmp_path / "models" / "chest.onnx")
    environment = {"MERCURE_IN_DIR": "/mnt/in", "MERCURE_OUT_DIR": "/mnt/out"}
    options = ("--model", "/mnt/model/chest.onnx", "--report")
    done = run_isolated(study, out, tmp_path / "models", environment, "job", *options)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert "warn" not in done.err.lower()
    written = {path.name: path.stat().st_uid for path in out.iterdir()}
    assert written == dict.fromkeys(["in_sr.dcm", "report.html", "result.json"], ANY_UID)
    answer = json.loads((out / "result.json").read_text())
    assert answer["__mercure_notification"]["text"].startswith("ok: ")
    assert answer["files"] == ["in_sr.dcm", "report.html"]


def test_the_model_of_a_package_and_a_refused_scan(
    hu: NDArray[np.int16], make_model: MakeModel, tmp_path: Path, out: Path
) -> None:
    study = made.write_series(tmp_path / "in", hu[:, :, :1], "1.2.3")
    (tmp_path / "models").mkdir()
    make_model().rename(tmp_path / "models" / "model.onnx")
    environment = {
        "HOLOSCAN_INPUT_PATH": "/mnt/in",
        "HOLOSCAN_OUTPUT_PATH": "/mnt/out",
        "HOLOSCAN_MODEL_PATH": "/mnt/model",
    }
    done = run_isolated(study, out, tmp_path / "models", environment, "job", "--fail-on", "refused")
    assert done.code == 1, done.err
    assert json.loads((out / "result.json").read_text())["status"] == "refused"


def test_a_model_whose_folder_may_not_be_entered_is_named(make_model: MakeModel, tmp_path: Path, out: Path) -> None:
    make_model("chest.onnx")
    tmp_path.chmod(0o700)
    (tmp_path / "in").mkdir()
    folders = ("--in", "/mnt/in", "--out", "/mnt/out", "--model", "/mnt/model/chest.onnx")
    done = run_isolated(tmp_path / "in", out, tmp_path, {}, "job", *folders)
    assert (done.code, done.err.count("\n")) == (3, 1)
    assert "/mnt/model/chest.onnx" in done.err
    assert "Permission denied" in done.err


def test_a_folder_that_cannot_be_written_to_is_named(make_model: MakeModel, tmp_path: Path, out: Path) -> None:
    out.chmod(0o755)
    make_model()
    (tmp_path / "in").mkdir()
    done = run_isolated(tmp_path / "in", out, tmp_path, {}, "job", "--in", "/mnt/in", "--out", "/mnt/out")
    assert (done.code, done.err) == (73, "error: Cannot write /mnt/out/result.json: Permission denied.\n")
