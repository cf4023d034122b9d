"""Fuse preprocessing and postprocessing into the graph of a model file, and check the parity of the result."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.fused_io.preprocessing import NodeWriter, append_preprocessing
from ct3d_edge.conversion.parity.parity_report import ParityReport, require_parity
from ct3d_edge.errors import ModelError
from ct3d_edge.modelfile.model_file import PROVENANCE_KEY, ModelFile, parse_model_file
from ct3d_edge.modelfile.signature import (
    INPUT_KEY,
    INTERCEPT_INPUT,
    PROBABILITIES_OUTPUT,
    SLOPE_INPUT,
    STORED_VOXELS,
    VOXEL_AXES,
    VOXELS_INPUT,
)
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner

FUSED_IO_ATOL = 2e-5
"""Largest difference of a probability."""

ScanSummary = dict[str, object]
"""Shape, slope and intercept of a scan, for the provenance."""

MIN_OPSET = 13
"""Least opset of the operators that are added."""

NAME_PREFIX = "ct3d_"


def append_postprocessing(nodes: NodeWriter, contract: Contract, output: str) -> None:
    """Add the nodes from a network's output ``(1, outputs)`` to ``probabilities`` ``(classes,)``.

    Activation and temperature are those of the contract, as in `to_probabilities`.
    """
    temperature = np.array(contract.temperature, np.float32)
    tempered = contract.temperature != 1
    if contract.activation != "identity" and tempered:
        output = nodes.op("Div", output, temperature)
    if contract.activation == "sigmoid":
        output = nodes.op("Sigmoid", output)
    if contract.activation == "softmax":
        output = nodes.op("Softmax", output, axis=1)
    if contract.outputs == 1:
        output = nodes.op("Concat", nodes.op("Sub", np.array(1, np.float32), output), output, axis=1)
    if contract.activation == "identity" and tempered:
        output = _append_temperature_scaling(nodes, output, contract.temperature)
    nodes.op("Reshape", output, np.array([len(contract.labels)]), output_name=PROBABILITIES_OUTPUT)


def _append_temperature_scaling(nodes: NodeWriter, probabilities: str, temperature: float) -> str:
    """``p ** (1 / T)`` relative to the largest, normalised to a sum of one, as in `apply_temperature`."""
    positive = nodes.op("Relu", probabilities)
    largest = nodes.op("ReduceMax", positive, keepdims=1)
    powers = nodes.op("Pow", nodes.op("Div", positive, largest), np.array(1 / temperature, np.float32))
    return nodes.op("Div", powers, nodes.op("ReduceSum", powers, keepdims=1))


def fuse_io(model: ModelFile) -> onnx.ModelProto:
    """The graph of a model file, from stored voxels to probabilities; metadata included.

    Raises
    ------
    ModelError
        The file's opset is older than what the preprocessing needs, or its names are those of the new interface.
    """
    if model.opset < MIN_OPSET:
        raise ModelError(
            f"{model.path} has opset {model.opset}; `embed_preprocessing=True` needs {MIN_OPSET} or later. "
            "Convert the network again."
        )
    proto: onnx.ModelProto = onnx.ModelProto.FromString(model.data)
    _check_name_conflicts(model, proto.graph)
    before, after = NodeWriter(NAME_PREFIX + "before_"), NodeWriter(NAME_PREFIX + "after_")
    append_preprocessing(before, model.contract, model.input_name)
    append_postprocessing(after, model.contract, model.output_name)
    nodes = [*before.nodes, *proto.graph.node, *after.nodes]
    del proto.graph.node[:], proto.graph.input[:], proto.graph.output[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend([*before.constants, *after.constants])
    proto.graph.input.extend(
        [
            helper.make_tensor_value_info(VOXELS_INPUT, TensorProto.INT16, VOXEL_AXES),
            helper.make_tensor_value_info(SLOPE_INPUT, TensorProto.FLOAT, []),
            helper.make_tensor_value_info(INTERCEPT_INPUT, TensorProto.FLOAT, []),
        ]
    )
    classes = len(model.contract.labels)
    proto.graph.output.append(helper.make_tensor_value_info(PROBABILITIES_OUTPUT, TensorProto.FLOAT, [classes]))
    proto.metadata_props.add(key=INPUT_KEY, value=STORED_VOXELS)
    return proto


def _check_name_conflicts(model: ModelFile, graph: onnx.GraphProto) -> None:
    """Refuse a graph with tensors that have names of the added ones."""
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    taken = sorted(
        name
        for name in names
        if name in {VOXELS_INPUT, SLOPE_INPUT, INTERCEPT_INPUT, PROBABILITIES_OUTPUT} or name.startswith(NAME_PREFIX)
    )
    if taken:
        raise ModelError(
            f"{model.path} has a tensor called {taken[0]}, which `embed_preprocessing=True` needs for its own."
        )


def add_fused_io(
    model: ModelFile, scans: Iterable[Volume], *, limit: float = FUSED_IO_ATOL
) -> tuple[ModelFile, ParityReport]:
    """A model file with the preprocessing inside, and its parity report against NumPy's and the source file.

    Parameters
    ----------
    model
        A checked file that takes network inputs.
    scans
        At least eight int16 scans in the contract's orientation, with several sizes, slopes and intercepts.
    limit
        Largest difference of a probability; in a lower precision, the last bit of an input becomes a whole step.

    Raises
    ------
    ModelError
        The graph is too old, or ONNX Runtime cannot run the result.
    CheckFailedError
        The predictions differ.
    UsageError
        Too few scans.
    """
    proto = fuse_io(model)
    parity, summaries = check_fused_parity(proto, model, scans, limit)
    proto = _write_provenance(proto, model, {**parity.to_dict(), "scans": summaries})
    return _parse_fused_model(model.path, proto), parity


def check_fused_parity(
    proto: onnx.ModelProto, model: ModelFile, scans: Iterable[Volume], limit: float = FUSED_IO_ATOL
) -> tuple[ParityReport, list[ScanSummary]]:
    """Compare a graph that takes stored voxels with NumPy's preprocessing and a model; also summarise the scans.

    Raises
    ------
    ModelError, CheckFailedError, UsageError
        As `add_fused_io`.
    """
    pairs, summaries = [], []
    with (
        Runner(_parse_fused_model(model.path, proto), SessionRequest("cpu")) as inside,
        Runner(model, SessionRequest("cpu")) as outside,
    ):
        for scan in scans:
            expected = outside.infer(preprocess(scan, model.contract).volume[None])[0]
            found = inside.infer_stored(np.ascontiguousarray(scan.stored.T), scan.slope, scan.intercept)
            pairs.append((expected, found))
            summaries.append({"shape": list(scan.shape), "slope": scan.slope, "intercept": scan.intercept})
        parity = ParityReport.from_outputs(
            pairs, inside, description="scans as stored, against NumPy's preprocessing", limit=limit
        )
    require_parity(parity)
    return parity, summaries


def _parse_fused_model(path: Path, proto: onnx.ModelProto) -> ModelFile:
    return parse_model_file(path, proto.SerializeToString(deterministic=True), stored_voxels=True)


def _write_provenance(proto: onnx.ModelProto, model: ModelFile, parity: ScanSummary) -> onnx.ModelProto:
    provenance = {**model.provenance, "nodes": len(proto.graph.node), "embedded_preprocessing": parity}
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    properties[PROVENANCE_KEY] = json.dumps(provenance, sort_keys=True, separators=(",", ":"))
    onnx.helper.set_model_props(proto, properties)
    return proto
