"""Put the preprocessing in front of a network and the probabilities behind it."""

import onnx
from onnx import TensorProto, helper

from ct3d_edge.conversion.embedding.concluding import conclude
from ct3d_edge.conversion.embedding.nodes import Nodes
from ct3d_edge.conversion.embedding.preparing import prepare
from ct3d_edge.errors import ModelError
from ct3d_edge.runtime import AXES, INPUT_KEY, INTERCEPT, PROBABILITIES, SLOPE, STORED_VOXELS, VOXELS, ModelFile

OLDEST_OPSET = 13
"""Of the operators as they are written here."""

PREFIX = "ct3d_"


def embed(model: ModelFile) -> onnx.ModelProto:
    """The graph of a model file, from stored voxels to probabilities; metadata included.

    Raises
    ------
    ModelError
        The file's opset is older than what the preprocessing needs, or its names are those of the new interface.
    """
    if model.opset < OLDEST_OPSET:
        raise ModelError(
            f"{model.path} has opset {model.opset}; --embed-preprocessing needs {OLDEST_OPSET} or later. "
            "Convert the network again."
        )
    proto: onnx.ModelProto = onnx.ModelProto.FromString(model.data)
    _refuse_names(model, proto.graph)
    before, after = Nodes(PREFIX + "before_"), Nodes(PREFIX + "after_")
    prepare(before, model.contract, model.input_name)
    conclude(after, model.contract, model.output_name)
    nodes = [*before.nodes, *proto.graph.node, *after.nodes]
    del proto.graph.node[:], proto.graph.input[:], proto.graph.output[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend([*before.constants, *after.constants])
    proto.graph.input.extend(
        [
            helper.make_tensor_value_info(VOXELS, TensorProto.INT16, AXES),
            helper.make_tensor_value_info(SLOPE, TensorProto.FLOAT, []),
            helper.make_tensor_value_info(INTERCEPT, TensorProto.FLOAT, []),
        ]
    )
    classes = len(model.contract.labels)
    proto.graph.output.append(helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, [classes]))
    proto.metadata_props.add(key=INPUT_KEY, value=STORED_VOXELS)
    return proto


def _refuse_names(model: ModelFile, graph: onnx.GraphProto) -> None:
    """Two tensors of one name would be one tensor."""
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    taken = sorted(
        name for name in names if name in {VOXELS, SLOPE, INTERCEPT, PROBABILITIES} or name.startswith(PREFIX)
    )
    if taken:
        raise ModelError(f"{model.path} has a tensor called {taken[0]}, which --embed-preprocessing needs for its own.")
