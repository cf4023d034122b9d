"""Shape(x), ConstantOfShape, Concat, ... of constants  ->  a constant        before any rule looks at the graph

Exporters write known numbers (the padding of a layer, the axes of a reshape) as computations; rules need the numbers.
Exact: integers are evaluated with ONNX's reference implementation. Floating-point results are left to the runtime,
whose rounding may differ, and so are results larger than `MAX_ELEMENTS`.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from ct3d_edge.conversion.passes.graph import Array, GraphRewriter, constant_array, remove_unused
from ct3d_edge.conversion.passes.rule import reinfer_shapes

MAX_ELEMENTS = 4096
"""Largest size of a folded constant: shapes, axes and paddings are far smaller."""

SHAPE_OPERATORS = ("Shape", "Size", "ConstantOfShape", "Range", "Expand", "Tile")
MOVES = (
    "Cast",
    "Concat",
    "Flatten",
    "Gather",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Where",
)
ARITHMETIC = (
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "Neg",
    "Max",
    "Min",
    "ReduceProd",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
)
FOLDABLE = frozenset({*SHAPE_OPERATORS, *MOVES, *ARITHMETIC})

MAX_ROUNDS = 8
"""Rounds of folding, since a known size makes others known; networks needed two."""


def fold_constants(model: ir.Model) -> None:
    """Fold known values of the given graph, and infer the shapes that follow."""
    for _ in range(MAX_ROUNDS):
        folded = [node for node in list(model.graph) if _fold(node)]
        if not folded:
            return
        for node in reversed(folded):
            remove_unused(node)
        reinfer_shapes(model)


def _fold(node: ir.Node) -> bool:
    """Replace a node's output by a constant; return whether that was possible."""
    if node.op_type not in FOLDABLE or node.domain or len(node.outputs) != 1 or node.outputs[0].is_graph_output():
        return False
    found = _known_lengths(node)
    if found is None:
        found = _evaluate(node)
    if found is None or found.dtype.kind not in "iu" or found.size > MAX_ELEMENTS:
        return False
    site = GraphRewriter(node)
    ir.convenience.replace_all_uses_with(node.outputs[0], site.add_constant(found, "known"))
    return True


def _known_lengths(node: ir.Node) -> Array | None:
    """Known lengths of axes, even if others, such as the batch, are not known."""
    if node.op_type == "Shape":
        return _integers(_axis_lengths(node))
    producer = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    if producer is None or producer.op_type != "Shape" or node.op_type not in ("Gather", "Slice"):
        return None
    lengths = _axis_lengths(producer)
    numbers = [constant_array(value) for value in node.inputs[1:]]
    if lengths is None or any(number is None for number in numbers):
        return None
    indices = _run(node, [np.arange(len(lengths)), *(number for number in numbers if number is not None)])
    chosen = _integers([lengths[index] for index in np.asarray(indices).reshape(-1)])
    return None if chosen is None else chosen.reshape(np.shape(indices))


def _axis_lengths(shape: ir.Node) -> Sequence[int | None] | None:
    """Output of a Shape node, None for an axis of unknown length."""
    value = shape.inputs[0]
    if value is None or value.shape is None:
        return None
    lengths = [axis if isinstance(axis, int) else None for axis in value.shape.dims]
    first, last = (shape.attributes[name].as_int() if name in shape.attributes else None for name in ("start", "end"))
    return lengths[first:last]


def _integers(lengths: Sequence[int | None] | None) -> Array | None:
    known = [] if lengths is None else [length for length in lengths if length is not None]
    return np.array(known, np.int64) if lengths is not None and len(known) == len(lengths) else None


def _evaluate(node: ir.Node) -> Array | None:
    arrays = [constant_array(value) for value in node.inputs if value is not None]
    if any(value is None for value in node.inputs) or any(array is None for array in arrays) or not arrays:
        return None
    if sum(array.size for array in arrays if array is not None) > MAX_ELEMENTS:
        return None
    return _run(node, [array for array in arrays if array is not None])


def _run(node: ir.Node, arrays: Sequence[Array]) -> Array:
    """Evaluate one node with ONNX's reference implementation."""
    names = [f"input{index}" for index in range(len(arrays))]
    inputs = [ir.Value(name=name) for name in names]
    alone = ir.node(node.op_type, inputs, dict(node.attributes))
    alone.outputs[0].name = "output"
    versions = node.graph.opset_imports if node.graph else {}
    graph = ir.Graph(inputs, alone.outputs, nodes=[alone], opset_imports={"": versions.get("", 18)}, name="one node")
    evaluator = ReferenceEvaluator(ir.to_proto(ir.Model(graph, ir_version=10)))
    (found,) = evaluator.run(None, dict(zip(names, arrays, strict=True)))
    return np.asarray(found)
