"""Where the cells of a tensor lie in the network's input: read off convolutions and poolings on the way.

A window of length k, stride s, dilation d and padding p over cells at ``offset + stride * i`` gives cells at
``offset + stride * ((k - 1) * d / 2 - p)`` with ``stride * s`` between them.
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
    """One axis of a tensor that runs along one of the network's input axes."""

    axis: int
    offset: float
    stride: float


AxisFields = tuple[AxisField | None, ...]
"""Of each axis of a tensor behind the batch; None for channels."""


def trace_receptive_field(proto: onnx.ModelProto, value: str, shape: tuple[int, int, int]) -> FeatureGrid | None:
    """Where the cells of a tensor ``(N, C, ...)`` lie in an input whose axes have these lengths.

    None if that cannot be read off the graph, or the tensor's axes are not the input's, in their order.
    """
    model = validate_graph(proto)
    lies: dict[ir.Value, AxisFields] = {model.graph.inputs[0]: _input_fields(model.graph.inputs[0], shape)}
    for node in model.graph:
        lie = _propagate(node, lies)
        if lie is not None:
            lies[node.outputs[0]] = lie
    found = next((lie for known, lie in lies.items() if known.name == value), ())
    space = [along for along in found[1:] if along is not None]
    if [along.axis for along in space] != [0, 1, 2] or found[0] is not None:
        return None
    (a, b, c) = space
    return FeatureGrid((a.offset, b.offset, c.offset), (a.stride, b.stride, c.stride))


def _input_fields(value: ir.Value, shape: tuple[int, int, int]) -> AxisFields:
    lengths = sample_shape(value) or ()
    axes = [AxisField(axis, 0.0, 1.0) for axis in range(3)]
    if lengths == shape:
        return tuple(axes)
    return (None, *axes) if lengths == (1, *shape) else (*axes, None)


def _propagate(node: ir.Node, lies: dict[ir.Value, AxisFields]) -> AxisFields | None:
    """How a node's output lies; None where that is not known."""
    given = [lies.get(value) for value in node.inputs if value is not None]
    known = [lie for lie in given if lie is not None]
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
    placed = []
    for along, axis in zip(space, Window.from_node(node).axes, strict=True):
        if along is None:
            return None
        inside = (axis.kernel - 1) * axis.dilation / 2 - axis.begin
        placed.append(AxisField(along.axis, along.offset + along.stride * inside, along.stride * axis.stride))
    return (None, *placed)


def _propagate_transpose(node: ir.Node, given: list[AxisFields]) -> AxisFields | None:
    order = transpose_permutation(node)
    return None if order is None or order[0] != 0 else tuple(given[0][axis - 1] for axis in order[1:])


def _propagate_reshape(node: ir.Node, given: list[AxisFields]) -> AxisFields | None:
    """Only axes of length one come and go."""
    before, after = sample_shape(first_input(node)), sample_shape(node.outputs[0])
    if before is None or after is None:
        return None
    long = [along for along, size in zip(given[0], before, strict=True) if size > 1]
    if [size for size in before if size > 1] != [size for size in after if size > 1]:
        return None
    upcoming = iter(long)
    return tuple(next(upcoming) if size > 1 else None for size in after)


def _propagate_slice(node: ir.Node, given: list[AxisFields]) -> AxisFields | None:
    """A piece with every voxel of it."""
    starts, axes = constant_array(node.inputs[1]), constant_array(node.inputs[3]) if len(node.inputs) > 3 else None
    steps = constant_array(node.inputs[4]) if len(node.inputs) > 4 else None
    if starts is None or axes is None or (starts < 0).any() or (steps is not None and (steps != 1).any()):
        return None
    placed = list(given[0])
    for start, axis in zip(starts.reshape(-1), axes.reshape(-1), strict=True):
        along = placed[int(axis) - 1] if axis > 0 else None
        if along is not None:
            placed[int(axis) - 1] = AxisField(along.axis, along.offset + along.stride * int(start), along.stride)
    return tuple(placed)


def _propagate_elementwise(node: ir.Node, given: list[AxisFields]) -> AxisFields | None:
    """An operator that works voxel by voxel, on one tensor, or on several that lie alike."""
    before, after = sample_shape(first_input(node)), sample_shape(node.outputs[0])
    alike = all(lie == given[0] for lie in given)
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
