"""A network that is sure of nearly everything, and model files of which one weight tensor has been changed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from builders import tiny_proto
from graphs import GraphMaker, answers
from numpy.typing import NDArray
from onnx import numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.modelfile.golden_input import RECIPE, make_golden_input
from ct3d_edge.modelfile.model_file import ModelFile, parse_model_file
from ct3d_edge.session.verify import renew_golden_test

Array = NDArray[np.float32]


def sure_network(contract: Contract, sureness: float = 12.0) -> onnx.ModelProto:
    """Three convolutions, normalisations, two dense layers: the tutorial's kind, with logits that vary by a dozen."""
    g = GraphMaker(*contract.input_shape, seed=4)
    x = g.op("Reshape", "x", np.array([-1, 1, *contract.shape]))
    for channels, outputs in ((1, 8), (8, 8), (8, 16)):
        x = g.op("Relu", g.conv(x, outputs, channels, 3, 3, 3, pads=[1] * 6))
        x = g.affine(x, outputs, positive=True)
        if outputs < 16:
            x = g.op("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    x = g.op("Reshape", g.op("ReduceMean", x, np.array([2, 3, 4])), np.array([-1, 16]))
    x = g.op("Relu", g.op("Add", g.op("MatMul", x, g.normal(16, 32) / 4), g.normal(32)))
    head = g.normal(32, contract.outputs)
    inputs = np.stack([make_golden_input(RECIPE, (seed, seed, 0), contract.shape) for seed in range(1, 9)])
    given = answers(g.model(x), inputs.reshape(-1, *contract.input_shape))[0] @ head
    x = g.op("MatMul", x, np.float32(sureness) * head / given.std(axis=0))
    logit = g.op("Add", x, -np.float32(sureness) * np.median(given, axis=0) / given.std(axis=0))
    return g.model(g.op("Sigmoid" if contract.outputs == 1 else "Softmax", logit))


def as_model(graph: onnx.ModelProto, contract: Contract) -> ModelFile:
    """A model file with a golden test of its own."""
    proto = onnx.ModelProto()
    proto.CopyFrom(graph)
    proto.metadata_props.extend(tiny_proto(contract).metadata_props)
    data, _ = renew_golden_test(parse_model_file(Path("made.onnx"), proto.SerializeToString()))
    return parse_model_file(Path("made.onnx"), data)


def mutants(model: ModelFile) -> Iterator[tuple[str, ModelFile]]:
    """Each float tensor changed in one way after the other; the rest of the file, golden test included, stays."""
    proto = onnx.ModelProto.FromString(model.data)
    for number, tensor in enumerate(proto.graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        right = numpy_helper.to_array(tensor)
        for kind, wrong in changes(right):
            proto.graph.initializer[number].CopyFrom(numpy_helper.from_array(wrong.astype(np.float32), tensor.name))
            yield f"{tensor.name}: {kind}", parse_model_file(model.path, proto.SerializeToString())
        proto.graph.initializer[number].CopyFrom(numpy_helper.from_array(right, tensor.name))


def changes(right: Array) -> Iterator[tuple[str, Array]]:
    """Ways in which a tensor is wrong; channels lie along its longest axis but for kernels, where they come first."""
    yield "times 1.05", right * np.float32(1.05)
    yield "half its spread added", right + np.float32(0.5 * (right.std() or np.abs(right).max()))
    axis = 0 if right.ndim > 3 and len(right) > 1 else int(np.argmax(right.shape))
    if right.shape[axis] == 1:
        return
    channels = np.moveaxis(right.copy(), axis, 0)
    channels[len(channels) // 2] = 0
    yield "a channel zeroed", np.moveaxis(channels, 0, axis)
    channels = np.moveaxis(right.copy(), axis, 0)
    channels[[0, 1]] = channels[[1, 0]]
    yield "two channels swapped", np.moveaxis(channels, 0, axis)


def with_last_bias(model: ModelFile, added: float) -> ModelFile:
    """The file with a number added to the last class's bias in front of the final activation."""
    proto = onnx.ModelProto.FromString(model.data)
    made = {name: node for node in proto.graph.node for name in node.output}
    addition = made[made[model.output_name].input[0]]
    (bias,) = [tensor for tensor in proto.graph.initializer if tensor.name in addition.input]
    changed = numpy_helper.to_array(bias).copy()
    changed.reshape(-1)[-1] += added
    bias.CopyFrom(numpy_helper.from_array(changed, bias.name))
    return parse_model_file(model.path, proto.SerializeToString())


def in_bfloat16(model: ModelFile) -> ModelFile:
    """The file with every weight cut to the eight significant bits of bfloat16."""
    proto = onnx.ModelProto.FromString(model.data)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            bits = numpy_helper.to_array(tensor).view(np.uint32) & np.uint32(0xFFFF0000)
            tensor.CopyFrom(numpy_helper.from_array(bits.view(np.float32), tensor.name))
    return parse_model_file(model.path, proto.SerializeToString())
