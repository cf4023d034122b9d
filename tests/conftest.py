"""Tiny volumes, scans and models that the tests share; nothing here is larger than it must be."""

import gzip
import subprocess
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from builders import DICOM, LAS, NODE, MakeModel, MakeScan, PeerPython, tiny_proto
from networks import KERAS
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.providers.plugins import OPENVINO, find_plugin_issue

SHARED = Path(__file__).parents[2] / "shared" / "data" / "ct"


def pytest_report_header() -> list[str]:
    """Say what is left out, and why."""
    parts = [(KERAS, "tests/training and tests/conversion", "train"), (DICOM, "tests/scan/dicom and others", "dicom")]
    parts.append((NODE, "tests/node", "node"))
    return [f"left out: {what} (the extra '{extra}' is not installed)" for there, what, extra in parts if not there]


@pytest.fixture(scope="session")
def real_scans() -> Path:
    """Folder of real CT scans, which cannot be shipped with the project."""
    if not SHARED.is_dir():
        pytest.skip(f"needs real CT scans in {SHARED}; they may not be distributed with the project")
    return SHARED


@pytest.fixture(scope="session")
def openvino() -> None:
    """Needed by tests that run a network on OpenVINO's plugin."""
    obstacle = find_plugin_issue(OPENVINO)
    if obstacle:
        pytest.skip(f"needs OpenVINO's plugin and a device of Intel's: {obstacle}")


@pytest.fixture(scope="session")
def peer_python(tmp_path_factory: pytest.TempPathFactory) -> PeerPython:
    """``peer_python("package")``: an interpreter with that package in an environment of its own."""

    @lru_cache
    def make(package: str) -> Path:
        home = tmp_path_factory.mktemp("peer") / "env"
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        python = home / "bin" / "python"
        command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", package]
        made = subprocess.run(command, check=False, capture_output=True, text=True)
        if made.returncode:
            pytest.skip(f"{package} cannot be installed: {made.stderr.strip().splitlines()[-1:]}")
        return python

    return make


@pytest.fixture
def hu() -> NDArray[np.int16]:
    """(24, 20, 12) int16 HU, LAS: air, a body, two lungs, noise; no symmetry that could hide a flip."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (24, 20, 12)), indexing="ij")
    volume = np.where(x**2 + y**2 < 0.8, 40, -1000)
    volume = np.where((np.abs(x) - 0.4) ** 2 / 0.06 + (y + 0.1) ** 2 / 0.2 + z**2 < 1, -850 + 100 * z, volume)
    noise = np.random.default_rng(0).normal(0, 20, volume.shape)
    return (volume + 60 * x + 30 * y + noise).astype(np.int16)


@pytest.fixture
def make_scan(tmp_path: Path, hu: NDArray[np.int16]) -> MakeScan:
    """Write an array as NIfTI: ``make_scan(name="scan.nii.gz", voxels=hu, affine=LAS)`` gives its path."""

    def make(
        name: str = "scan.nii.gz",
        voxels: NDArray[np.generic] = hu,
        affine: NDArray[np.float64] | None = LAS,
        folder: Path = tmp_path,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(voxels, affine)
        data = image.to_bytes()
        path = folder / name
        path.write_bytes(gzip.compress(data, 1, mtime=0) if name.endswith(".gz") else data)
        return path

    return make


@pytest.fixture
def contract() -> Contract:
    """A contract for a network of 16 x 12 x 8 voxels."""
    return Contract(shape=(16, 12, 8))


@pytest.fixture
def make_model(tmp_path: Path, contract: Contract) -> MakeModel:
    """Write a tiny model file: ``make_model(name="tiny.onnx", **changes_to_the_contract)`` gives its path."""

    def make(name: str = "tiny.onnx", expected: float = 0.5, tolerance: float = 1.0, **changes: object) -> Path:
        changed = replace(contract, **changes) if changes else contract  # type: ignore[arg-type]
        path = tmp_path / name
        path.write_bytes(tiny_proto(changed, expected, tolerance).SerializeToString())
        return path

    return make
