"""Positions of the cells of a tensor in the network's input, from the convolutions and poolings between the two.

A window of length k, stride s, dilation d and padding p over cells at ``offset + stride * i`` gives cells that begin at
``offset + stride * ((k - 1) * d / 2 - p)`` with the stride ``stride * s``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import constant_array, first_input, sample_shape, transpose_permutation
from ct3d_edge.conversion.passes.rule import RewriteRefused
from ct3d_edge.conversion.passes.validate_graph import SPATIAL, validate_graph
from ct3d_edge.conversion.passes.window import Window
from ct3d_edge.gradcam.resample_to_scan import FeatureGrid


@dataclass(frozen=True)
class AxisField:
    """One axis of a tensor that runs along an axis of the network's input; offset and stride in input voxels."""

    axis: int
    offset: float
    stride: float

    def step(self, start: float, stride: int = 1) -> "AxisField":
        """The field of an axis whose cells begin at ``start`` in cells of this one, every ``stride`` of them."""
        return AxisField(self.axis, self.offset + self.stride * start, self.stride * stride)


AxisFields = tuple[AxisField | None, ...]
"""For each axis of a tensor after the batch; None for channels."""


def trace_receptive_field(proto: onnx.ModelProto, value: str, shape: tuple[int, int, int]) -> FeatureGrid | None:
    """Positions of the cells of a tensor ``(N, C, ...)`` in an input whose axes have these lengths.

    None if the graph does not show them, or the axes of the tensor are not those of the input in the same order.
    """
    model = validate_graph(proto)
    traced: dict[ir.Value, AxisFields] = {model.graph.inputs[0]: _input_fields(model.graph.inputs[0], shape)}
    for node in model.graph:
        fields = _propagate(node, traced)
        if fields is not None:
            traced[node.outputs[0]] = fields
    found = next((fields for known, fields in traced.items() if known.name == value), ())
    space = [field for field in found[1:] if field is not None]
    if [field.axis for field in space] != [0, 1, 2] or found[0] is not None:
        return None
    (a, b, c) = space
    return FeatureGrid((a.offset, b.offset, c.offset), (a.stride, b.stride, c.stride))


def _input_fields(value: ir.Value, shape: tuple[int, int, int]) -> AxisFields:
    lengths = sample_shape(value) or ()
    axes = [AxisField(axis, 0.0, 1.0) for axis in range(3)]
    if lengths == shape:
        return tuple(axes)
    return (None, *axes) if lengths == (1, *shape) else (*axes, None)


def _propagate(node: ir.Node, traced: dict[ir.Value, AxisFields]) -> AxisFields | None:
    """Fields of a node's output; None where they are not known."""
    given = [traced.get(value) for value in node.inputs if value is not None]
    known = [fields for fields in given if fields is not None]
    if not known or given[0] is None or sample_shape(node.outputs[0]) is None:
        return None
    try:
        return _PROPAGATE_BY_OP.get(node.op_type, _propagate_elementwise)(node, known)
    except RewriteRefused:
        return None


def _propagate_window(node: ir.Node, given: list[AxisFields]) -> AxisFields | None:
    (channels, *space) = given[0]
    if channels is not None:
        return None
    windowed = []
    for field, axis in zip(space, Window.from_node(node).axes, strict=True):
        if field is None:
            return None
        windowed.append(field.step((axis.kernel - 1) * axis.dilation / 2 - axis.begin, axis.stride))
    return (None, *windowed)


def _propagate_transpose(node: ir.Node, given: list[AxisFields]) -> AxisFields | None:
    order = transpose_permutation(node)
    return None if order is None or order[0] != 0 else tuple(given[0][axis - 1] for axis in order[1:])


def _propagate_reshape(node: ir.Node, given: list[AxisFields]) -> AxisFields | None:
    """Only axes of length one may be added or removed."""
    before, after = sample_shape(first_input(node)), sample_shape(node.outputs[0])
    if before is None or after is None:
        return None
    long = iter([field for field, size in zip(given[0], before, strict=True) if size > 1])
    if [size for size in before if size > 1] != [size for size in after if size > 1]:
        return None
    return tuple(next(long) if size > 1 else None for size in after)


def _propagate_slice(node: ir.Node, given: list[AxisFields]) -> AxisFields | None:
    """A contiguous piece: steps of one."""
    starts, axes = constant_array(node.inputs[1]), constant_array(node.inputs[3]) if len(node.inputs) > 3 else None
    steps = constant_array(node.inputs[4]) if len(node.inputs) > 4 else None
    if starts is None or axes is None or (starts < 0).any() or (steps is not None and (steps != 1).any()):
        return None
    fields = list(given[0])
    for start, axis in zip(starts.reshape(-1), axes.reshape(-1), strict=True):
        field = fields[int(axis) - 1] if axis > 0 else None
        if field is not None:
            fields[int(axis) - 1] = field.step(int(start))
    return tuple(fields)


def _propagate_elementwise(node: ir.Node, given: list[AxisFields]) -> AxisFields | None:
    """An elementwise operator on one tensor, or on several with the same fields."""
    before, after = sample_shape(first_input(node)), sample_shape(node.outputs[0])
    alike = all(fields == given[0] for fields in given)
    return given[0] if node.op_type in ELEMENTWISE_OPS and alike and before == after else None


ELEMENTWISE_OPS = frozenset(
    {
        "Add", "BatchNormalization", "Cast", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish",
        "Identity", "LeakyRelu", "Mish", "Mul", "Neg", "PRelu", "Pow", "Relu", "Selu", "Sigmoid", "Softplus",
        "Softsign", "Sqrt", "Sub", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip

_PROPAGATE_BY_OP: dict[str, Callable[[ir.Node, list[AxisFields]], AxisFields | None]] = {
    **dict.fromkeys(SPATIAL, _propagate_window),
    **dict.fromkeys(("Reshape", "Squeeze", "Unsqueeze"), _propagate_reshape),
    "Transpose": _propagate_transpose,
    "Slice": _propagate_slice,
}
