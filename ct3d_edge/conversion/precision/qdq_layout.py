"""Place QuantizeLinear (Q) and DequantizeLinear (DQ) where runtimes with symmetric integers fuse them.

::

    Conv ─ Q ─ DQ ─ Relu ─ Q          ->     Conv ─ Relu ─ Q            one rounding, within the convolution
    Relu ─ Q, int8                    ->     Relu ─ Q, uint8            where unsigned integers are supported
    x ─ Slice ─ Q, more than once     ->     x ─ Q ─ Slice, Slice ...   one pass over x

The first saves a rounding, the second halves the step of the integers; zero stays the integer zero. The third is exact.
"""

from collections import defaultdict

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import Array, constant_array, first_input, only_consumer, remove_unused
from ct3d_edge.conversion.precision.tile_ranges import SAME_VALUES
from ct3d_edge.errors import ModelError

SCALE, ZERO_POINT = 1, 2
"""Inputs of Q and DQ."""

SIGNED_STEPS, UNSIGNED_STEPS = 127, 255
"""Integers that the largest value of a tensor is divided into."""


def arrange_qdq(model: ir.Model, *, unsigned: bool) -> None:
    """Apply the rewrites to a graph of symmetric integers, in place.

    Parameters
    ----------
    unsigned
        Whether tensors without negative values become uint8; TensorRT has no such integers.
    """
    for relu in [node for node in model.graph if node.op_type == "Relu"]:
        _remove_rounding_before(relu)
    if unsigned:
        _use_unsigned_integers(model)
    _quantize_before_slices(model)


def _remove_rounding_before(relu: ir.Node) -> None:
    """Give a Relu whose output is quantised the output of the convolution itself."""
    dequantize = _only_producer(relu, "DequantizeLinear")
    quantize = _only_producer(dequantize, "QuantizeLinear")
    uses = relu.outputs[0].uses()
    if dequantize is None or quantize is None or not uses or any(use.node.op_type != "QuantizeLinear" for use in uses):
        return
    relu.replace_input_with(0, quantize.inputs[0])
    remove_unused(dequantize)


def _only_producer(node: ir.Node | None, operator: str) -> ir.Node | None:
    """The node of an operator that makes the first input of a node, and of this node alone."""
    value = None if node is None else node.inputs[0]
    producer = None if value is None or only_consumer(value) is not node else value.producer()
    return producer if producer is not None and producer.op_type == operator else None


def _use_unsigned_integers(model: ir.Model) -> None:
    """Make int8 tensors without negative values uint8, with a step of 127 / 255 of the former one."""
    for zero in list(model.graph.initializers.values()):
        users = [use.node for use in zero.uses()]
        if not users or zero.dtype != ir.DataType.INT8 or not _all_never_negative(users):
            continue
        scales = {value for user in users if (value := user.inputs[SCALE]) is not None}
        if any(use.node not in users for scale in scales for use in scale.uses()):
            continue
        _set_constant(zero, np.zeros_like(_array(zero), np.uint8))
        for scale in scales:
            _set_constant(scale, _array(scale) * np.float32(SIGNED_STEPS / UNSIGNED_STEPS))
        for user in users:
            if user.op_type == "QuantizeLinear":
                user.outputs[0].dtype = ir.DataType.UINT8


def _all_never_negative(users: list[ir.Node]) -> bool:
    """Whether all that a zero point serves are Q and DQ of tensors without negative values; weights may have some."""
    return all(
        user.op_type in ("QuantizeLinear", "DequantizeLinear") and _is_never_negative(user.inputs[0]) for user in users
    )


def _array(value: ir.Value | None) -> Array:
    """The array of a constant input of Q or DQ."""
    array = constant_array(value)
    if array is None:
        raise ModelError("A scale or zero point of the quantised graph is not a constant. Use `precision=fp16`.")
    return array


def _set_constant(value: ir.Value, array: Array) -> None:
    """Give an initializer another array."""
    value.const_value = ir.tensor(array, name=value.name)
    value.dtype = ir.DataType.from_numpy(array.dtype)


def _is_never_negative(value: ir.Value | None) -> bool:
    """Whether a tensor holds outputs of Relu only, as they are or quantised."""
    node = None if value is None else value.producer()
    if node is None:
        return False
    if node.op_type == "Relu":
        return True
    if node.op_type == "Concat":
        return all(map(_is_never_negative, node.inputs))
    return node.op_type in {*SAME_VALUES, "QuantizeLinear", "DequantizeLinear"} and _is_never_negative(node.inputs[0])


def _quantize_before_slices(model: ir.Model) -> None:
    """Quantise once what several slices with the same scale quantise in parts."""
    for nodes in _quantizations_of_slices(model):
        slices = [node for quantize in nodes if (node := first_input(quantize).producer()) is not None]
        if len(nodes) < 2:
            continue
        integers = ir.TensorType(ir.DataType.from_numpy(_array(nodes[0].inputs[ZERO_POINT]).dtype))
        output = ir.Value(name=f"{nodes[0].outputs[0].name}.whole", type=integers)
        source = [slices[0].inputs[0], *nodes[0].inputs[SCALE:]]
        whole = ir.Node("", "QuantizeLinear", source, outputs=[output], name=f"{nodes[0].name}.whole")
        min(slices, key=list(model.graph).index).prepend(whole)
        for quantize, node in zip(nodes, slices, strict=True):
            node.replace_input_with(0, output)
            node.outputs[0].type = integers
            ir.convenience.replace_all_uses_with(quantize.outputs[0], node.outputs[0])
            model.graph.remove(quantize, safe=True)


def _quantizations_of_slices(model: ir.Model) -> list[list[ir.Node]]:
    """Q nodes behind slices, in groups of one sliced tensor, scale and integer type."""
    groups: dict[tuple[object, ...], list[ir.Node]] = defaultdict(list)
    for node in model.graph:
        if node.op_type == "QuantizeLinear" and (cut := _only_producer(node, "Slice")) is not None:
            scale, zero = map(_array, node.inputs[SCALE:])
            groups[cut.inputs[0], scale.tobytes(), zero.dtype].append(node)
    return list(groups.values())
