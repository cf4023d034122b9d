"""Writers of convolutions and poolings: channels first in ONNX, last in most networks of Keras.

Transposes around each are removed by the passes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.direct.writer import Array, OperationCall, WriteFn, known_shape, to_array


def _channels_first(call: OperationCall, write: Callable[[ir.Value, tuple[int, ...]], ir.Value]) -> ir.Value:
    """Write an operator that is given the input and the lengths of its spatial axes, channels first."""
    shape = known_shape(call.x)
    axes = len(shape)
    if None in shape[1:]:
        raise call.refuse(f"its input {shape} is open")
    if call.operation.data_format == "channels_first":
        return write(call.x, shape[2:])  # type: ignore[arg-type]  # they are known
    if shape[-1] == 1:
        x = call.add("Reshape", call.x, np.array([-1, 1, *shape[1:-1]]))
    else:
        x = call.add("Transpose", call.x, perm=[0, axes - 1, *range(1, axes - 1)])
    y = write(x, shape[1:-1])  # type: ignore[arg-type]
    return call.add("Transpose", y, perm=[0, *range(2, axes), 1])


def _numbers(value: Any, count: int) -> list[int]:
    return [int(n) for n in np.broadcast_to(np.array(value, int), count)]


def _window(call: OperationCall, sides: Sequence[int], kernel: Sequence[int], dilation: Any = 1) -> dict[str, Any]:
    """Attributes of a window, with the padding that TensorFlow computes for ``same``."""
    operation, count = call.operation, len(sides)
    strides = _numbers(kernel if operation.strides is None else operation.strides, count)
    dilations = _numbers(dilation, count)
    missing = [0] * count
    if operation.padding == "same":
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        missing = [max((-(-n // s) - 1) * s + r - n, 0) for n, s, r in zip(sides, strides, reach, strict=True)]
    elif operation.padding != "valid":
        raise call.refuse(f"padding {operation.padding}")
    pads = [m // 2 for m in missing] + [m - m // 2 for m in missing]
    return {"kernel_shape": list(kernel), "strides": strides, "dilations": dilations, "pads": pads}


def _kernel(call: OperationCall) -> Array:
    """Weights ``(*kernel, inputs, outputs)``."""
    if isinstance(call.inputs[1], ir.Value):
        raise call.refuse("its kernel is computed")
    return to_array(call.inputs[1])


def write_conv(call: OperationCall) -> ir.Value:
    """A convolution, in as many groups as the input has times the channels of the kernel."""
    weights = _kernel(call)
    return _convolve(call, np.moveaxis(weights, (-1, -2), (0, 1)))


def write_depthwise_conv(call: OperationCall) -> ir.Value:
    """Each channel by itself."""
    weights = _kernel(call)
    *kernel, inputs, multiplier = weights.shape
    return _convolve(call, np.moveaxis(weights.reshape(*kernel, 1, inputs * multiplier), (-1, -2), (0, 1)))


def _convolve(call: OperationCall, weights: Array) -> ir.Value:
    """By weights ``(outputs, inputs of a group, *kernel)``."""
    shape = known_shape(call.x)
    channels = shape[1] if call.operation.data_format == "channels_first" else shape[-1]
    group = int(channels or 0) // weights.shape[1]

    def write(x: ir.Value, sides: tuple[int, ...]) -> ir.Value:
        window = _window(call, sides, weights.shape[2:], call.operation.dilation_rate)
        return call.add("Conv", x, weights, group=group, **window)

    return _channels_first(call, write)


def write_conv_transpose(call: OperationCall) -> ir.Value:
    """A transposed convolution, padded so that its output is as long as Keras inferred."""
    weights = np.moveaxis(_kernel(call), (-1, -2), (0, 1))
    lengths = call.shapes[0][2:] if call.operation.data_format == "channels_first" else call.shapes[0][1:-1]

    def write(x: ir.Value, sides: tuple[int, ...]) -> ir.Value:
        count, kernel = len(sides), weights.shape[2:]
        strides, dilations = _numbers(call.operation.strides, count), _numbers(call.operation.dilation_rate, count)
        full = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(sides, strides, kernel, dilations, strict=True)]
        surplus = [f - int(n or 0) for f, n in zip(full, lengths, strict=True)]
        cut = [max(s, 0) for s in surplus] if call.operation.padding == "same" else [0] * count
        pads = [c // 2 for c in cut] + [c - c // 2 for c in cut]
        missing = [c - s for c, s in zip(cut, surplus, strict=True)]
        window = {"kernel_shape": list(kernel), "strides": strides, "dilations": dilations, "pads": pads}
        return call.add("ConvTranspose", x, weights, output_padding=missing, **window)

    return _channels_first(call, write)


def _pool(operator: str) -> WriteFn:
    def write(call: OperationCall) -> ir.Value:
        def pool(x: ir.Value, sides: tuple[int, ...]) -> ir.Value:
            window = _window(call, sides, _numbers(call.operation.pool_size, len(sides)))
            del window["dilations"]  # an average has them from opset 19 on
            return call.add(operator, x, **window)

        return _channels_first(call, pool)

    return write


WINDOWS: dict[str, WriteFn] = {
    "Conv": write_conv,
    "DepthwiseConv": write_depthwise_conv,
    "ConvTranspose": write_conv_transpose,
    "MaxPool": _pool("MaxPool"),
    "AveragePool": _pool("AveragePool"),
}
