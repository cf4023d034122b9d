"""Preprocessing in front of a network and probabilities behind it."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.fused_io.preprocessing import NodeWriter, append_preprocessing
from ct3d_edge.errors import ModelError
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.modelfile.signature import (
    INPUT_KEY,
    INTERCEPT_INPUT,
    PROBABILITIES_OUTPUT,
    SLOPE_INPUT,
    STORED_VOXELS,
    VOXEL_AXES,
    VOXELS_INPUT,
)


def append_postprocessing(nodes: NodeWriter, contract: Contract, output: str) -> None:
    """Add the nodes from a network's output ``(1, outputs)`` to ``probabilities`` ``(classes,)``.

    Activation and temperature are those of the contract, as in ``runtime.to_probabilities``.
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
    """``p ** (1 / T)``, against the largest, made to add up to one: see ``calibration.temper``."""
    positive = nodes.op("Relu", probabilities)
    largest = nodes.op("ReduceMax", positive, keepdims=1)
    powers = nodes.op("Pow", nodes.op("Div", positive, largest), np.array(1 / temperature, np.float32))
    return nodes.op("Div", powers, nodes.op("ReduceSum", powers, keepdims=1))


MIN_OPSET = 13
"""Of the operators as they are written here."""

NAME_PREFIX = "ct3d_"


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
    """Two tensors of one name would be one tensor."""
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
