"""Convert a graph to float16 except sensitive nodes, and simulate that graph in float32."""

from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ct3d_edge.conversion.passes.graph import REWRITE_MARK
from ct3d_edge.conversion.passes.validate_graph import validate_graph

FP16_SUFFIX = f"{REWRITE_MARK}half"
FP32_SUFFIX = f"{REWRITE_MARK}single"
UNROUNDED_SUFFIX = f"{REWRITE_MARK}exact"
CAST_BACK_SUFFIX = f"{FP16_SUFFIX}.back"


def convert_to_fp16(proto: onnx.ModelProto, fp32_nodes: Collection[str]) -> onnx.ModelProto:
    """Let a float32 graph compute in float16; input and output stay float32, every type is written down.

    Parameters
    ----------
    proto
        As `passes.optimize` takes and gives it; it is not changed.
    fp32_nodes
        Nodes that stay float32, each named by the first tensor it gives. A Cast stands at each border.

    Raises
    ------
    ModelError
        As `validate_graph`.
    """
    model = validate_graph(proto)
    writer = _Fp16Caster(model.graph)
    for node in list(model.graph):
        writer.convert(node, half=runs_in_fp16(node, fp32_nodes))
    return _finish(model)


def simulate_fp16(proto: onnx.ModelProto, fp32_nodes: Collection[str]) -> onnx.ModelProto:
    """The graph of `convert_to_fp16` in float32, with every tensor rounded to float16 where that graph holds float16.

    ONNX Runtime's CPU provider runs float16 nodes in float32 and rounds nothing in between: a value of 1e6 passes
    there and is infinite on a GPU. This graph shows on any machine what a device with float16 arithmetic gives.
    """
    model = validate_graph(proto)
    rounder = _Fp16Rounder(model.graph)
    for node in list(model.graph):
        if runs_in_fp16(node, fp32_nodes):
            rounder.round(node)
    return _finish(model)


def runs_in_fp16(node: ir.Node, fp32_nodes: Collection[str]) -> bool:
    """Whether a node computes in float16: it has floating-point outputs, and is not among ``fp32_nodes``."""
    known = all(value is None or value.dtype is not None for value in (*node.inputs, *node.outputs))
    floats = any(value.dtype == ir.DataType.FLOAT for value in node.outputs)
    return known and floats and node.outputs[0].name not in fp32_nodes


def to_fp16_array(array: NDArray[np.float32]) -> NDArray[np.float16]:
    """An array in float16; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return array.astype(np.float16)


def _finish(model: ir.Model) -> onnx.ModelProto:
    ir.passes.common.RemoveUnusedNodesPass()(model)
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    return proto


class _Fp16Caster:
    """Casts the inputs of each node to the type in which it computes; each tensor is cast once."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._cast: dict[tuple[str | None, ir.DataType], ir.Value] = {}

    def convert(self, node: ir.Node, *, half: bool) -> None:
        wanted = ir.DataType.FLOAT16 if half else ir.DataType.FLOAT
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16) and value.dtype != wanted:
                node.replace_input_with(index, self._cast_to(value, wanted, node))
        if half:
            self._mark_outputs_fp16(node)

    def _cast_to(self, value: ir.Value, wanted: ir.DataType, consumer: ir.Node) -> ir.Value:
        key = value.name, wanted
        if key not in self._cast:
            tensor = ir.convenience.get_const_tensor(value)
            made = self._store(value, tensor.numpy()) if tensor is not None else self._insert(value, wanted, consumer)
            self._cast[key] = made
        return self._cast[key]

    def _store(self, value: ir.Value, array: NDArray[np.float32]) -> ir.Value:
        return add_initializer(self._graph, f"{value.name}{FP16_SUFFIX}", to_fp16_array(array))

    def _insert(self, value: ir.Value, wanted: ir.DataType, consumer: ir.Node) -> ir.Value:
        suffix = FP16_SUFFIX if wanted == ir.DataType.FLOAT16 else FP32_SUFFIX
        cast = ir.node("Cast", [value], {"to": int(wanted)}, name=f"{value.name}{suffix}")
        made = cast.outputs[0]
        made.name, made.dtype, made.shape = cast.name, wanted, value.shape
        self._graph.insert_before(consumer, cast)
        return made

    def _mark_outputs_fp16(self, node: ir.Node) -> None:
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                value.dtype = ir.DataType.FLOAT16
            if value.is_graph_output():
                raise ValueError(f"{node.name} computes the prediction and stays float32")


class _Fp16Rounder:
    """Rounds the inputs and outputs of a node to float16."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._rounded: dict[str | None, ir.Value] = {}

    def round(self, node: ir.Node) -> None:
        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == ir.DataType.FLOAT and not self._is_rounded(value):
                node.replace_input_with(index, self._input(value, node))
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                self._output(value, node)

    def _is_rounded(self, value: ir.Value) -> bool:
        producer = value.producer()
        return producer is not None and (producer.name or "").endswith(CAST_BACK_SUFFIX)

    def _input(self, value: ir.Value, consumer: ir.Node) -> ir.Value:
        if value.name not in self._rounded:
            tensor = ir.convenience.get_const_tensor(value)
            if tensor is not None:
                array = to_fp16_array(tensor.numpy()).astype(np.float32)
                self._rounded[value.name] = add_initializer(self._graph, f"{value.name}{FP16_SUFFIX}", array)
            else:
                half, back = _make_cast_pair(value, f"{value.name}{FP32_SUFFIX}")
                self._graph.insert_before(consumer, [half, back])
                self._rounded[value.name] = back.outputs[0]
        return self._rounded[value.name]

    def _output(self, value: ir.Value, node: ir.Node) -> None:
        name, users = value.name, list(value.uses())
        value.name = f"{name}{UNROUNDED_SUFFIX}"
        half, back = _make_cast_pair(value, str(name))
        self._graph.insert_after(node, [half, back])
        for user, index in users:
            user.replace_input_with(index, back.outputs[0])


def _make_cast_pair(value: ir.Value, name: str) -> tuple[ir.Node, ir.Node]:
    half = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT16)}, name=f"{name}{FP16_SUFFIX}")
    half.outputs[0].name = half.name
    back = ir.node("Cast", [half.outputs[0]], {"to": int(ir.DataType.FLOAT)}, name=f"{name}{CAST_BACK_SUFFIX}")
    made = back.outputs[0]
    made.name, made.dtype, made.shape = name, ir.DataType.FLOAT, value.shape
    return half, back


def add_initializer(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Add a constant as it is, whatever its type."""
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.dtype, value.shape = ir.DataType.from_numpy(array.dtype), ir.Shape(array.shape)
    graph.register_initializer(value)
    return value
