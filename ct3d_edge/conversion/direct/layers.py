"""Writers of the layers that do not show what they are made of: recurrent ones, and those that call a backend."""

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.direct.operations import OPERATIONS
from ct3d_edge.conversion.direct.shape_operations import reshape_target, slice_axis
from ct3d_edge.conversion.direct.windows import write_conv
from ct3d_edge.conversion.direct.writer import OperationCall, WriteFn, known_shape, to_array

BACKEND_ACTIVATIONS = {keras.activations.mish: "Mish", keras.activations.hard_silu: "HardSilu"}
"""Those that call the backend without being recorded."""


def _activate(call: OperationCall, activation: Any, x: ir.Value) -> Any:
    if activation in BACKEND_ACTIVATIONS:
        return OPERATIONS[BACKEND_ACTIVATIONS[activation]](replace(call, inputs=(x,)))
    return x if activation is None else call.writer.apply(activation, x)


def write_activation(call: OperationCall) -> Any:
    """A function of each number."""
    return _activate(call, call.operation.activation, call.x)


def write_conv_layer(call: OperationCall) -> Any:
    """Convolution, bias, activation; Keras infers no shape of an operation with groups."""
    layer = call.operation
    if layer.padding == "causal":
        raise call.refuse("causal padding")
    x = write_conv(replace(call, inputs=(call.x, layer.kernel)))
    if layer.bias is not None:
        axes = len(call.shapes[0])
        shape = (1, -1, *(1,) * (axes - 2)) if layer.data_format == "channels_first" else (1,) * (axes - 1) + (-1,)
        x = call.add("Add", x, to_array(layer.bias).reshape(shape))
    return _activate(call, layer.activation, _shaped(call, x))


def _shaped(call: OperationCall, x: ir.Value) -> ir.Value:
    """A value before the activation, which has the shape of the output."""
    x.shape, x.dtype = ir.Shape(call.shapes[0]), ir.DataType.FLOAT
    return x


def write_normalization(call: OperationCall) -> ir.Value:
    """``(x - mean) / deviation``, or its inverse."""
    layer = call.operation
    deviation = np.maximum(np.sqrt(to_array(layer.variance)), keras.backend.epsilon())
    if layer.invert:
        return call.add("Add", call.add("Mul", call.x, deviation), to_array(layer.mean))
    return call.add("Div", call.add("Sub", call.x, to_array(layer.mean)), deviation)


def write_time_distributed(call: OperationCall) -> ir.Value:
    """The layer on all steps at once, as one batch."""
    sides = known_shape(call.x)[1:]
    if None in (*sides, *call.shapes[0][1:]):
        raise call.refuse(f"its input {sides} is open")
    steps = call.add("Reshape", call.x, reshape_target((None, *sides[1:])))
    steps.shape, steps.dtype = ir.Shape([None, *sides[1:]]), ir.DataType.FLOAT
    shape = (None, *call.shapes[0][2:])
    inner = call.writer.write(OperationCall(call.writer, call.operation.layer, (steps,), {}, (shape,)))
    return call.add("Reshape", inner, reshape_target(call.shapes[0]))


def write_bidirectional(call: OperationCall) -> ir.Value:
    """Forwards and backwards, then together."""
    layer = call.operation
    forward, backward = (_recur(replace(call, operation=part)) for part in (layer.forward_layer, layer.backward_layer))
    backward = slice_axis(call, backward, 1, None, None, -1) if layer.return_sequences else backward
    if layer.merge_mode == "concat":
        return call.add("Concat", forward, backward, axis=-1)
    merged = {"sum": "Add", "ave": "Add", "mul": "Mul"}.get(layer.merge_mode)
    if merged is None:
        raise call.refuse(f"merge_mode {layer.merge_mode}")
    both = call.add(merged, forward, backward)
    return call.add("Mul", both, 0.5) if layer.merge_mode == "ave" else both


def _recur(call: OperationCall) -> Any:
    """A recurrent layer; LSTM and GRU with the usual activations as one operator, others step by step."""
    layer = call.operation
    if layer.stateful or layer.return_state or len(call.inputs) > 1 or set(call.options) - {"training"}:
        raise call.refuse("states or masks from outside")
    x = slice_axis(call, call.x, 1, None, None, -1) if layer.go_backwards else call.x
    if isinstance(layer, keras.layers.LSTM | keras.layers.GRU):
        used = (layer.cell.activation, layer.cell.recurrent_activation)
        if used == (keras.activations.tanh, keras.activations.sigmoid):
            return _write_gates(call, x)
    return _unroll(call, x)


GATES = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2)}
"""Gates in ONNX's order, by their numbers in Keras."""


def _write_gates(call: OperationCall, x: ir.Value) -> ir.Value:
    layer, cell = call.operation, call.operation.cell
    operator = "LSTM" if isinstance(layer, keras.layers.LSTM) else "GRU"
    order, units = GATES[operator], cell.units

    def arrange(weights: Any) -> Any:
        """``(..., gates * units)`` in ONNX's order, as rows."""
        gates = np.split(to_array(weights), len(order), axis=-1)
        return np.concatenate([gates[gate].T for gate in order])

    bias = np.zeros((2, len(order) * units), np.float32)
    if cell.bias is not None:
        given = np.atleast_2d(to_array(cell.bias))
        bias[: len(given)] = arrange(given).T
    kernels = (arrange(weights)[None] for weights in (cell.kernel, cell.recurrent_kernel))
    reset = {"linear_before_reset": int(cell.reset_after)} if operator == "GRU" else {}
    by_time = call.add("Transpose", x, perm=[1, 0, 2])
    steps, last = call.writer.add_several(
        2, operator, by_time, *kernels, bias.reshape(1, -1), hidden_size=units, **reset
    )
    if not layer.return_sequences:
        return call.add("Squeeze", last, np.array([0]))
    return call.add("Transpose", call.add("Squeeze", steps, np.array([1])), perm=[1, 0, 2])


def _unroll(call: OperationCall, x: ir.Value) -> ir.Value:
    """The cell for each step; it begins with zeros."""
    layer, shape = call.operation, known_shape(call.x)
    if shape[1] is None:
        raise call.refuse("an open number of steps")
    states = keras.tree.map_structure(keras.ops.convert_to_tensor, layer.get_initial_state(1))
    outputs: list[ir.Value] = []
    for step in range(shape[1]):
        now = call.add("Squeeze", slice_axis(call, x, 1, step, step + 1), np.array([1]))
        now.shape, now.dtype = ir.Shape([shape[0], *shape[2:]]), ir.DataType.FLOAT
        output, states = call.writer.apply(layer.cell.call, now, states, training=False)
        outputs.append(output)
    if not layer.return_sequences:
        return outputs[-1]
    return call.add("Concat", *(call.add("Unsqueeze", y, np.array([1])) for y in outputs), axis=1)


LAYERS: dict[str, WriteFn] = {
    "Activation": write_activation,
    "BaseConv": write_conv_layer,
    "Normalization": write_normalization,
    "TimeDistributed": write_time_distributed,
    "Bidirectional": write_bidirectional,
    "RNN": _recur,
}
