"""An installation without extras runs every command that promises to need none."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray
from traced import COMMAND, ROOT

HIDE_EXTRAS = '''
"""Python runs this file before every program, worker processes included."""
import sys
from importlib.machinery import PathFinder

HIDDEN = {
    "highdicom", "jinja2", "keras", "matplotlib", "onnx_ir", "prometheus_client", "python_multipart", "scipy",
    "sklearn", "starlette", "tensorboard", "tensorflow", "tf2onnx", "uvicorn",
}

class WithoutExtras(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

sys.meta_path = [WithoutExtras if finder is PathFinder else finder for finder in sys.meta_path]
'''

COMMANDS = {
    "bench": ("bench", "-m", "model.onnx", "-p", "cpu", "--input", "scans", "-n", "20"),
    "bench without scans": ("bench", "-m", "model.onnx", "-p", "cpu", "-n", "20"),
    "check": ("check", "scans", "-m", "model.onnx"),
    "data synth": ("data", "synth", "--out", "phantoms", "-n", "2", "--shape", "32", "32", "8"),
    "doctor": ("doctor",),
    "infer": ("infer", "scans", "-m", "model.onnx", "-p", "cpu", "-o", "r.jsonl", "--montage", "m.png"),
    "inspect": ("inspect", "-m", "model.onnx"),
    "preprocess": ("preprocess", "scans", "-m", "model.onnx", "--out", "made"),
    "verify": ("verify", "-m", "model.onnx", "-p", "cpu"),
}


@pytest.fixture
def folder(make_scan: MakeScan, make_model: MakeModel, hu: NDArray[np.int16], tmp_path: Path) -> Path:
    """A model and two scans, and the modules of the extras hidden from Python."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(HIDE_EXTRAS)
    for number in range(2):
        make_scan(f"{number}.nii.gz", voxels=(hu + 30 * number).astype(np.int16), folder=tmp_path / "scans")
    make_model("model.onnx")
    return tmp_path


def run_without_extras(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "hidden"), str(ROOT)])}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


@pytest.mark.parametrize("module", ["scipy", "sklearn", "matplotlib"])
def test_the_modules_of_the_extras_are_hidden(folder: Path, module: str) -> None:
    done = run_without_extras(folder, sys.executable, "-c", f"import {module}")
    assert f"ModuleNotFoundError: No module named '{module}'" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_needs_no_extra(folder: Path, name: str) -> None:
    done = run_without_extras(folder, *COMMAND, *COMMANDS[name])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("evaluate", ("evaluate", "scans", "-m", "model.onnx", "-p", "cpu")),
        ("evaluate", ("fit-temperature", "-m", "run", "scans")),
        ("train", ("train", "scans", "--out", "run")),
        ("optimize", ("optimize", "-m", "model.onnx", "-o", "fast.onnx")),
        ("serve", ("serve", "-m", "model.onnx", "--port", "0")),
    ],
)
def test_a_command_that_needs_an_extra_names_it(folder: Path, extra: str, command: tuple[str, ...]) -> None:
    done = run_without_extras(folder, *COMMAND, *command)
    assert done.returncode == 3, done.stderr
    assert f"[{extra}]" in done.stderr
