"""Tiny ONNX graphs, made node by node, and what ONNX Runtime answers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


class GraphMaker:
    """Collects nodes; an array among the inputs becomes a constant."""

    def __init__(self, *shape: int, seed: int = 0) -> None:
        self.shape = shape
        self.draw = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def op(self, operator: str, *inputs: str | Array, outputs: int = 1, **attributes: Any) -> str:
        """Add a node; the name of its first output."""
        name = f"{operator.lower()}{len(self._nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        made = [f"{name}_{n}" for n in range(outputs)]
        self._nodes.append(helper.make_node(operator, names, made, name=name, **attributes))
        return made[0]

    def conv(self, x: str, outputs: int, inputs: int, *kernel: int, bias: bool = True, **attributes: Any) -> str:
        """Add a convolution with random weights."""
        weights = self.normal(outputs, inputs, *kernel) / np.sqrt(inputs * np.prod(kernel), dtype=np.float32)
        return self.op("Conv", x, weights, *([self.normal(outputs)] if bias else []), **attributes)

    def affine(self, x: str, channels: int, axes: int = 5, *, positive: bool = False) -> str:
        """Add Mul and Add as tf2onnx writes a normalisation; factors of both signs unless told."""
        column = (1, channels) + (1,) * (axes - 2)
        factor = self.normal(*column)
        x = self.op("Mul", x, np.abs(factor) + np.float32(0.1) if positive else factor)
        return self.op("Add", x, self.normal(*column))

    def normal(self, *shape: int) -> Array:
        """Random float32 numbers."""
        return self.draw.normal(size=shape).astype(np.float32)

    def model(self, *outputs: str, opset: int = 18) -> onnx.ModelProto:
        """The graph from ``x`` ``("batch", *shape)`` to values."""
        graph = helper.make_graph(
            self._nodes,
            "tiny",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *self.shape])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self._constants,
        )
        bare = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        complete: onnx.ModelProto = onnx.shape_inference.infer_shapes(bare)  # outputs get their shapes
        del complete.graph.value_info[:]
        return complete

    def _constant(self, array: Array) -> str:
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name


def answers(proto: onnx.ModelProto, batch: Array) -> list[Array]:
    """Every output of a graph with one input."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: batch}))


def operators(proto: onnx.ModelProto) -> list[str]:
    """Operator types in the order of the nodes."""
    return [node.op_type for node in proto.graph.node]


def difference(before: onnx.ModelProto, after: onnx.ModelProto, shape: Sequence[int], batch: int = 2) -> float:
    """Largest difference of any output, in units of that output's largest number."""
    x = np.random.default_rng(7).normal(size=(batch, *shape)).astype(np.float32)
    pairs = list(zip(answers(before, x), answers(after, x), strict=True))
    assert all(a.shape == b.shape for a, b in pairs)
    return max(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-6)) for a, b in pairs)
