"""What the shared fixtures are made of, for tests that need a piece of it."""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.modelfile.golden_input import FIRST_RECIPE
from ct3d_edge.modelfile.golden_test import GoldenTest
from ct3d_edge.modelfile.model_file import CONTRACT_KEY, GOLDEN_KEY, PROVENANCE_KEY
from ct3d_edge.modelfile.signature import POOLED_OUTPUT
from ct3d_edge.quality_control.check_registry import DOWNGRADABLE

DICOM = all(find_spec(name) for name in ("pydicom", "gdcm", "highdicom"))
"""Whether the extra `dicom` is installed."""

NODE = DICOM and find_spec("pynetdicom") is not None
"""Whether the extra `node` is installed."""

LAS = np.diag([-2.0, 2.0, 8.0, 1.0])

ANY_SCAN = InferenceConfig("cpu", allow=DOWNGRADABLE)
"""For scans that are no chests: every check that can be downgraded is."""
ANY_SCAN_KERAS = InferenceConfig(allow=DOWNGRADABLE)
DOWNGRADE_ALL = tuple(word for code in sorted(DOWNGRADABLE) for word in ("--downgrade-check", code))
"""The same as options of a command."""

TINY_FEATURES = 2
"""That ``tiny_graph`` pools."""

MakeScan = Callable[..., Path]
MakeModel = Callable[..., Path]
PeerPython = Callable[[str], Path]

TRITON_CLIENT = "tritonclient[grpc,http]"
"""Its dependencies exclude ours."""


def endless_scan(folder: Path) -> Path:
    """A scan of 30 GB of nothing, sparse on the disk: it takes a minute to read."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((1000, 1000, 15000))
    header.set_sform(LAS, 1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    path = folder / "endless.nii"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.binaryblock)
    os.truncate(path, 352 + 2 * 1000 * 1000 * 15000)
    return path


def tiny_graph(contract: Contract, *, node_domain: str = "") -> onnx.GraphProto:
    """A network with a real 3D convolution: volume -> convolution -> mean -> one or more outputs.

    With a contract that holds feature statistics, the two means are an output as well.
    """
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
    outputs = [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", contract.outputs])]
    if contract.feature_statistics:
        nodes.append(helper.make_node("Identity", ["pooled"], [POOLED_OUTPUT], name=POOLED_OUTPUT))
        outputs.append(helper.make_tensor_value_info(POOLED_OUTPUT, TensorProto.FLOAT, ["batch", TINY_FEATURES]))
    return helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("volume", TensorProto.FLOAT, ["batch", *contract.input_shape])],
        outputs,
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
    golden = GoldenTest(FIRST_RECIPE, ((1, 1, 0), (2, 2, 0)), (row, row), tolerance)
    helper.set_model_props(
        proto, {CONTRACT_KEY: contract.to_json(), GOLDEN_KEY: golden.to_json(), PROVENANCE_KEY: "{}"}
    )
    return proto
