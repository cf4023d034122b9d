"""The programs of docs/embedding.md: shown as they are, and the ones that can run here do."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import LAS, MakeModel
from numpy.typing import NDArray

from ct3d_edge.conversion.fused_io.fuse import fuse_io
from ct3d_edge.modelfile.model_file import load_model_file
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples" / "embedding"
NODE_MODULES = ROOT / "node_modules"


@pytest.fixture
def folder(tmp_path: Path, make_model: MakeModel, hu: NDArray[np.int16]) -> Path:
    """A place with a model that has the preprocessing inside and a scan's voxels as its file holds them."""
    proto = fuse_io(load_model_file(make_model(temperature=0.7)))
    (tmp_path / "raw.onnx").write_bytes(proto.SerializeToString())
    (tmp_path / "scan.raw").write_bytes((hu + 1024).astype("<i2").tobytes(order="F"))
    return tmp_path


ARGUMENTS = ["raw.onnx", "scan.raw", "12", "20", "24", "1", "-1024"]


@pytest.fixture
def expected(make_model: MakeModel, hu: NDArray[np.int16]) -> list[float]:
    """What `infer` says of that scan."""
    model = load_model_file(make_model(temperature=0.7))
    with Runner(model, SessionRequest("cpu")) as runner:
        answer = runner.infer(preprocess(Volume(hu, affine=LAS), model.contract).volume[None])[0]
    return [float(probability) for probability in answer]


def answer_of(command: list[str], folder: Path) -> list[float]:
    done = subprocess.run(command + ARGUMENTS, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [float(number) for number in done.stdout.split()]


def test_the_page_shows_the_programs_as_they_are() -> None:
    page = (ROOT / "docs" / "embedding.md").read_text()
    shown = dict(re.findall(r"^### .*?\[(\S+)\].*?^```\w+\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    assert shown == {path.name: path.read_text() for path in EXAMPLES.iterdir()}


def test_the_python_program_gives_the_answer_of_infer(folder: Path, expected: list[float]) -> None:
    found = answer_of([sys.executable, "-W", "error", str(EXAMPLES / "main.py")], folder)
    assert found == pytest.approx(expected, abs=2e-5)


@pytest.mark.skipif(
    not (shutil.which("node") and (NODE_MODULES / "onnxruntime-node").is_dir()),
    reason="needs Node and, in the checkout: npm install --no-save onnxruntime-node",
)
def test_the_javascript_program_gives_the_answer_of_infer(folder: Path, expected: list[float]) -> None:
    shutil.copy(EXAMPLES / "index.mjs", folder)
    (folder / "node_modules").symlink_to(NODE_MODULES)
    assert answer_of(["node", "index.mjs"], folder) == pytest.approx(expected, abs=2e-5)
