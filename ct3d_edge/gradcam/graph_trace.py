"""The head of a network, read from its ONNX graph: global average pooling, dense layers, ReLU between them."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ct3d_edge.errors import ModelError
from ct3d_edge.gradcam.gradcam import AddLayer, ClassifierHead, HeadLayer, LinearLayer, ReluLayer

OUTPUT_ACTIVATIONS = frozenset({"Sigmoid", "Softmax"})
"""Activations that may stand at the end; the logit is what goes into them."""

PASS_THROUGH_OPS = frozenset({"Identity", "Cast", "Reshape", "Squeeze", "Flatten", "Dropout"})
"""Operators that leave the numbers of a vector a scan as they are."""

POOLING_OPS = frozenset({"ReduceMean", "GlobalAveragePool"})


@dataclass(frozen=True, eq=False)
class GlobalPooling:
    """The global average pooling of a network.

    Parameters
    ----------
    features
        Name of the tensor that is pooled.
    pooled
        Name of what the pooling gives.
    axes
        Axes that are averaged, as the graph gives them, negative ones included; None for all behind the second.
    head
        What stands behind it, up to the logits.
    last
        Operator that makes probabilities of the logits, ``"Sigmoid"`` or ``"Softmax"``; empty if there is none.
    """

    features: str
    pooled: str
    axes: tuple[int, ...] | None
    head: ClassifierHead
    last: str


def find_global_pooling(proto: onnx.ModelProto, output: str) -> GlobalPooling:
    """Walk from an output of a graph back to the pooling.

    Raises
    ------
    ModelError
        If there is anything else on the way; the message names the node.
    """
    return _BackwardTrace(proto.graph).trace(output)


class _BackwardTrace:
    """From one node to the one before it, collecting steps on the way."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._producers: dict[str, onnx.NodeProto] = {name: node for node in graph.node for name in node.output}
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._steps: list[HeadLayer] = []
        self._read: dict[str, Callable[[onnx.NodeProto], str]] = {
            "MatMul": self._matmul,
            "Gemm": self._gemm,
            "Add": self._add,
            "Mul": self._mul,
            "Relu": self._relu,
            **dict.fromkeys(PASS_THROUGH_OPS, lambda node: str(node.input[0])),
        }

    def trace(self, output: str) -> GlobalPooling:
        node = self._producer(output)
        while node.op_type in PASS_THROUGH_OPS:
            node = self._producer(node.input[0])
        last = node.op_type if node.op_type in OUTPUT_ACTIVATIONS else ""
        if last:
            node = self._producer(node.input[0])
        while node.op_type not in POOLING_OPS:
            if node.op_type not in self._read:
                raise _unsupported_error(f"node {node.name} behind its features is {node.op_type}")
            node = self._producer(self._read[node.op_type](node))
        return GlobalPooling(
            node.input[0], node.output[0], self._axes(node), ClassifierHead(tuple(reversed(self._steps))), last
        )

    def _producer(self, value: str) -> onnx.NodeProto:
        if value not in self._producers:
            raise _unsupported_error("it pools nothing")
        return self._producers[value]

    def _axes(self, node: onnx.NodeProto) -> tuple[int, ...] | None:
        if node.op_type == "GlobalAveragePool":
            return None
        axes = self._constant(node.input[1]) if len(node.input) > 1 else None
        if axes is None:
            raise _unsupported_error(f"which axes node {node.name} averages is not known")
        return tuple(int(axis) for axis in axes.reshape(-1))

    def _matmul(self, node: onnx.NodeProto) -> str:
        self._steps.append(LinearLayer(self._matrix(node)))
        return str(node.input[0])

    def _gemm(self, node: onnx.NodeProto) -> str:
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if given.get("transA", 0):
            raise _unsupported_error(f"node {node.name} transposes its input")
        weights = self._matrix(node)
        if len(node.input) > 2 and node.input[2]:
            self._steps.append(AddLayer(given.get("beta", 1.0) * self._vector(node, 2)))
        self._steps.append(LinearLayer(given.get("alpha", 1.0) * (weights.T if given.get("transB", 0) else weights)))
        return str(node.input[0])

    def _add(self, node: onnx.NodeProto) -> str:
        index = self._constant_input(node)
        self._steps.append(AddLayer(self._vector(node, index)))
        return str(node.input[1 - index])

    def _mul(self, node: onnx.NodeProto) -> str:
        index = self._constant_input(node)
        factors = self._vector(node, index)
        if factors.size == 1:
            raise _unsupported_error(f"node {node.name} multiplies by one number")
        self._steps.append(LinearLayer(np.diag(factors)))
        return str(node.input[1 - index])

    def _relu(self, node: onnx.NodeProto) -> str:
        self._steps.append(ReluLayer())
        return str(node.input[0])

    def _constant_input(self, node: onnx.NodeProto) -> int:
        indices = [index for index, name in enumerate(node.input) if self._constant(name) is not None]
        if len(indices) != 1:
            raise _unsupported_error(f"node {node.name} puts two branches together")
        return indices[0]

    def _matrix(self, node: onnx.NodeProto) -> NDArray[np.float64]:
        weights = self._constant(node.input[1])
        if weights is None or weights.ndim != 2:
            raise _unsupported_error(f"the weights of node {node.name} are no constant matrix")
        return weights.astype(np.float64)

    def _vector(self, node: onnx.NodeProto, index: int) -> NDArray[np.float64]:
        vector = self._constant(node.input[index])
        if vector is None or vector.size != max(vector.shape, default=1):
            raise _unsupported_error(f"what node {node.name} adds or multiplies is no constant vector")
        return vector.reshape(-1).astype(np.float64)

    def _constant(self, name: str) -> NDArray[np.generic] | None:
        if name in self._constants:
            return numpy_helper.to_array(self._constants[name])
        node = self._producers.get(name)
        if node is None or node.op_type != "Constant" or node.attribute[0].name != "value":
            return None
        return numpy_helper.to_array(node.attribute[0].t)


def _unsupported_error(reason: str) -> ModelError:
    return ModelError(
        f"This model cannot have a Grad-CAM output: {reason}. It takes a global average pooling followed by dense "
        "layers with ReLU between them."
    )
