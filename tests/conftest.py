"""Tiny volumes, scans and models that the tests share; nothing here is larger than it must be."""

import gzip
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.runtime import CONTRACT_KEY, GOLDEN_KEY, PROVENANCE_KEY, RECIPE, Golden

SHARED = Path(__file__).parents[2] / "shared" / "data" / "ct"
LAS = np.diag([-2.0, 2.0, 8.0, 1.0])

MakeScan = Callable[..., Path]
MakeModel = Callable[..., Path]


@pytest.fixture(scope="session")
def real_scans() -> Path:
    """Folder of real CT scans, which cannot be shipped with the project."""
    if not SHARED.is_dir():
        pytest.skip(f"needs real CT scans in {SHARED}; they may not be distributed with the project")
    return SHARED


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


def tiny_graph(contract: Contract, *, node_domain: str = "") -> onnx.GraphProto:
    """A network with a real 3D convolution: volume -> convolution -> mean -> one or more outputs."""
    rng = np.random.default_rng(1)
    kernel = rng.normal(0, 0.5, (2, 1, 3, 3, 3)).astype(np.float32)
    head = rng.normal(0, 3, (2, contract.outputs)).astype(np.float32)
    last = "Sigmoid" if contract.outputs == 1 else "Softmax"
    nodes = [
        helper.make_node("Reshape", ["volume", "with_channel"], ["channelled"], name="reshape"),
        helper.make_node("Conv", ["channelled", "kernel"], ["features"], name="conv", domain=node_domain),
        helper.make_node("ReduceMean", ["features", "axes"], ["pooled"], name="mean", keepdims=0),
        helper.make_node("MatMul", ["pooled", "head"], ["logit"], name="head"),
        helper.make_node(last, ["logit"], ["probability"], name="activation"),
    ]
    return helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("volume", TensorProto.FLOAT, ["batch", *contract.input_shape])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", contract.outputs])],
        [
            numpy_helper.from_array(np.array([-1, 1, *contract.shape]), "with_channel"),
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(np.array([2, 3, 4]), "axes"),
            numpy_helper.from_array(head, "head"),
        ],
    )


def tiny_proto(contract: Contract, expected: float = 0.5, tolerance: float = 1.0) -> onnx.ModelProto:
    """``tiny_graph`` as a complete model file's content; its golden test passes for anything unless narrowed."""
    proto = helper.make_model(tiny_graph(contract), opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    row = (1 - expected, expected) if len(contract.labels) == 2 else (expected,) * len(contract.labels)
    golden = Golden(RECIPE, (1, 2), (row, row), tolerance)
    helper.set_model_props(
        proto, {CONTRACT_KEY: contract.to_json(), GOLDEN_KEY: golden.to_json(), PROVENANCE_KEY: "{}"}
    )
    return proto


@pytest.fixture
def make_model(tmp_path: Path, contract: Contract) -> MakeModel:
    """Write a tiny model file: ``make_model(name="tiny.onnx", **changes_to_the_contract)`` gives its path."""

    def make(name: str = "tiny.onnx", expected: float = 0.5, tolerance: float = 1.0, **changes: object) -> Path:
        changed = replace(contract, **changes) if changes else contract  # type: ignore[arg-type]
        path = tmp_path / name
        path.write_bytes(tiny_proto(changed, expected, tolerance).SerializeToString())
        return path

    return make
