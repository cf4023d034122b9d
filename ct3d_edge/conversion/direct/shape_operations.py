"""Writers of the operations of `keras.ops` that move values and compute none, by the name of their class."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.direct.writer import Array, OperationCall, WriteFn, known_shape


def reshape_target(shape: Sequence[int | None]) -> Array:
    """A target of Reshape for a shape with one open axis at most."""
    return np.array([-1 if axis is None else axis for axis in shape], np.int64)


def write_reshape(call: OperationCall) -> ir.Value:
    """To the shape that Keras inferred; where two axes are open, the first is the input's."""
    shape = call.shapes[0]
    if sum(axis is None for axis in shape) > 1:
        raise call.refuse(f"two open axes in {shape}")
    return call.add("Reshape", call.x, reshape_target(shape))


def write_transpose(call: OperationCall) -> ir.Value:
    """Of all axes, reversed if none are named."""
    axes = call.operation.axes or range(len(call.shapes[0]))[::-1]
    return call.add("Transpose", call.x, perm=[int(axis) % len(call.shapes[0]) for axis in axes])


def write_concat(call: OperationCall) -> ir.Value:
    """Side by side."""
    return call.add("Concat", *call.inputs[0], axis=call.operation.axis)


def write_stack(call: OperationCall) -> ir.Value:
    """Side by side along a new axis."""
    axis = call.operation.axis
    parts = [call.add("Unsqueeze", x, np.array([axis], np.int64)) for x in call.inputs[0]]
    return call.add("Concat", *parts, axis=axis)


def write_split(call: OperationCall) -> Any:
    """Pieces along an axis, as long as Keras inferred."""
    axis = call.operation.axis
    lengths = np.array([shape[axis] for shape in call.shapes], np.int64)
    return call.writer.add_several(len(lengths), "Split", call.x, lengths, axis=axis)


def slice_axis(call: OperationCall, x: Any, axis: int, first: int | None, end: int | None, step: int = 1) -> ir.Value:
    """``x[first:end:step]`` along an axis."""
    largest = np.iinfo(np.int64).max
    start = (0 if step > 0 else largest) if first is None else first
    stop = (largest if step > 0 else -largest) if end is None else end
    numbers = [np.array([number], np.int64) for number in (start, stop, axis, step)]
    return call.add("Slice", x, *numbers)


def write_get_item(call: OperationCall) -> ir.Value:
    """Indices, slices, an ellipsis and new axes."""
    x, key = call.x, call.inputs[1] if len(call.inputs) > 1 else call.options["key"]
    keys = list(key) if isinstance(key, tuple | list) else [key]
    rank = len(known_shape(x))
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        keys[at : at + 1] = [slice(None)] * (rank - sum(k is not None and k is not Ellipsis for k in keys))
    gone = [axis for axis, k in enumerate(k for k in keys if k is not None) if isinstance(k, int)]
    new = [axis for axis, k in enumerate(k for k in keys if not isinstance(k, int)) if k is None]
    for axis, k in enumerate(k for k in keys if k is not None):
        if not isinstance(k, int | slice):
            raise call.refuse(f"an index of {type(k).__name__}")
        cut = k if isinstance(k, slice) else slice(k, k + 1 or None)
        x = x if cut == slice(None) else slice_axis(call, x, axis, cut.start, cut.stop, cut.step or 1)
    x = call.add("Squeeze", x, np.array(gone, np.int64)) if gone else x
    return call.add("Unsqueeze", x, np.array(new, np.int64)) if new else x


def write_repeat(call: OperationCall) -> ir.Value:
    """Each element several times, one after the other."""
    axis = call.operation.axis
    length = None if axis is None else known_shape(call.x)[axis]
    if length is None:
        raise call.refuse("it repeats along an open axis")
    return call.add("Gather", call.x, np.repeat(np.arange(length), call.operation.repeats), axis=axis)


def write_roll(call: OperationCall) -> ir.Value:
    """What leaves at one end enters at the other."""
    x = call.x
    for shift, axis in zip(np.ravel(call.operation.shift), np.ravel(call.operation.axis).tolist(), strict=True):
        end = -int(shift)
        x = call.add("Concat", slice_axis(call, x, axis, end, None), slice_axis(call, x, axis, 0, end), axis=axis)
    return x


def write_flip(call: OperationCall) -> ir.Value:
    """The other way round."""
    x = call.x
    for axis in np.ravel(call.operation.axis):
        x = slice_axis(call, x, int(axis), None, None, -1)
    return x


def write_pad(call: OperationCall) -> ir.Value:
    """Numbers around a tensor."""
    pads = np.broadcast_to(np.array(call.operation.pad_width, np.int64), (len(call.shapes[0]), 2))
    mode = {"constant": "constant", "reflect": "reflect"}.get(call.operation.mode)
    if mode is None:
        raise call.refuse(f"padding in the mode {call.operation.mode}")
    constant = call.inputs[1] if len(call.inputs) > 1 else call.options.get("constant_values", 0)
    return call.add("Pad", call.x, pads.T.ravel(), float(constant or 0), mode=mode)


def _axes(call: OperationCall, operator: str) -> ir.Value:
    axis = call.operation.axis
    return call.add(operator, call.x, None if axis is None else np.array(axis, np.int64).reshape(-1))


SHAPE_OPERATIONS: dict[str, WriteFn] = {
    "Reshape": write_reshape,
    "Transpose": write_transpose,
    "Concatenate": write_concat,
    "Stack": write_stack,
    "Split": write_split,
    "GetItem": write_get_item,
    "Repeat": write_repeat,
    "Roll": write_roll,
    "Flip": write_flip,
    "Pad": write_pad,
    "Squeeze": lambda call: _axes(call, "Squeeze"),
    "ExpandDims": lambda call: _axes(call, "Unsqueeze"),
}
