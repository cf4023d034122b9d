"""Validate a graph before it is rewritten; an error names the node."""

from collections.abc import Iterable

import onnx
import onnx_ir as ir

from ct3d_edge.conversion.passes.explicit_windows import write_explicit_windows
from ct3d_edge.conversion.passes.fold_constants import fold_constants
from ct3d_edge.conversion.passes.graph import has_body, sample_shape
from ct3d_edge.conversion.passes.rule import RewriteRefused, infer_shapes
from ct3d_edge.conversion.passes.window import Window
from ct3d_edge.errors import ModelError

OPSETS = range(18, 23)
"""Opsets: tf2onnx writes 18; after 22 the operators used here may have another meaning."""

SPATIAL = frozenset({"Conv", "MaxPool", "AveragePool"})
REFUSED_TYPES = {ir.DataType.DOUBLE: "float64", ir.DataType.FLOAT16: "float16", ir.DataType.BFLOAT16: "bfloat16"}


def validate_graph(proto: onnx.ModelProto) -> ir.Model:
    """Read a graph that can be rewritten.

    Returns
    -------
    ir.Model
        With inferred shapes, constants as initializers, known integers folded, and ``ceil_mode`` as padding. Bodies of
        control flow are part of it; no rule rewrites them.

    Raises
    ------
    ModelError
        Empty graph, another opset, other domains, weights outside the file or not in float32, or a convolution or
        pooling whose input size is not known, unless it is after control flow. The message names the node.
    """
    _require_graph(proto)
    for node in _all_nodes(proto.graph):
        _require_plain(node)
    for tensor in _tensors(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(f"The tensor {tensor.name} lies in another file. Save the model as one file.")
    model = infer_shapes(ir.from_proto(proto))
    ir.passes.Sequential(
        ir.passes.common.RemoveInitializersFromInputsPass(), ir.passes.common.LiftConstantsToInitializersPass()
    )(model)
    fold_constants(model)
    write_explicit_windows(model)
    for inner in model.graph.all_nodes():
        _require_float32(inner)
    behind_control_flow = False
    for graph_node in model.graph:
        _require_size(graph_node, may_be_unknown=behind_control_flow)
        behind_control_flow = behind_control_flow or has_body(graph_node)
    return model


def _require_graph(proto: onnx.ModelProto) -> None:
    if not proto.graph.node or not proto.graph.output:
        raise ModelError("The graph is empty: there is no node to optimise.")
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset not in OPSETS:
        raise ModelError(
            f"The graph is of opset {opset} (first node {_name(proto.graph.node[0])}); opset {OPSETS.start} to "
            f"{OPSETS.stop - 1} can be optimised. onnx.version_converter changes it."
        )


def _require_plain(node: onnx.NodeProto) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise ModelError(
            f"Node {_name(node)} is {node.op_type} of the domain {node.domain}; only operators of ONNX itself can be "
            "optimised."
        )
    if not onnx.defs.has(node.op_type):
        raise ModelError(f"Node {_name(node)} is {node.op_type}, which is no operator of ONNX.")


def _all_nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for body in _bodies(node):
            yield from _all_nodes(body)


def _bodies(node: onnx.NodeProto) -> Iterable[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from ([attribute.g] if attribute.HasField("g") else attribute.graphs)


def _tensors(graph: onnx.GraphProto) -> Iterable[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))
        for body in _bodies(node):
            yield from _tensors(body)


def _require_float32(node: ir.Node) -> None:
    for value in (*node.inputs, *node.outputs):
        kind = REFUSED_TYPES.get(value.dtype) if value is not None and value.dtype is not None else None
        if kind:
            raise ModelError(f"Node {node.name or node.op_type} computes in {kind}; only float32 can be optimised.")


def _require_size(node: ir.Node, *, may_be_unknown: bool) -> None:
    """Whether a node is after control flow, where sizes cannot always be inferred; rules skip such nodes."""
    if node.op_type not in SPATIAL:
        return
    value = node.inputs[0]
    if may_be_unknown and (value is None or sample_shape(value) is None):
        return
    if value is None or sample_shape(value) is None:
        raise ModelError(
            f"Node {node.name or node.op_type} ({node.op_type}) has an input of unknown size "
            f"{value.shape if value is not None else None}; all but the batch axis must be known."
        )
    try:
        expected = Window.from_node(node).out
    except RewriteRefused:  # a kernel that is computed; the rules leave it alone
        return
    if min(expected) < 1:
        raise ModelError(
            f"Node {node.name or node.op_type} is given {sample_shape(value)}, less than its window is long."
        )
    found = sample_shape(node.outputs[0])
    if found is not None and found[1:] != expected:  # a window that begins in the padding, which runtimes leave out
        raise ModelError(f"Node {node.name or node.op_type} gives {found[1:]} voxels or {expected}: runtimes disagree.")


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.op_type
