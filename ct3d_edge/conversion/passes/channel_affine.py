"""Nodes that scale and shift each channel, such as a normalisation in inference."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ct3d_edge.conversion.passes.graph import GraphRewriter, constant_array, first_input, per_channel_constant, rank

OPERATORS = frozenset({"Mul", "Add", "Sub", "Div", "BatchNormalization"})

Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChannelAffine:
    """``y = scale * x + shift``, channel by channel.

    Parameters
    ----------
    x
        ``(N, C, ...)`` float32.
    scale, shift
        ``(C,)`` float64.
    """

    x: ir.Value
    scale: Vector
    shift: Vector

    @property
    def axes(self) -> int:
        """Rank of ``x``."""
        return rank(self.x) or 0


def read_channel_affine(node: ir.Node) -> ChannelAffine | None:
    """Read a node as an affine map of the channels; None if it is no such map."""
    if node.op_type == "BatchNormalization":
        return _normalisation(node)
    if node.op_type not in OPERATORS:
        return None
    left, right = node.inputs
    if constant_array(left) is not None and node.op_type in ("Mul", "Add", "Sub"):
        return _from_operator(node.op_type, right, left, first=True)
    return _from_operator(node.op_type, left, right, first=False)


def _from_operator(operator: str, x: ir.Value | None, other: ir.Value | None, *, first: bool) -> ChannelAffine | None:
    """``first``: the constant is the first input, which matters for a subtraction."""
    if x is None or constant_array(x) is not None or (rank(x) or 0) < 2 or x.shape is None:
        return None
    channels = x.shape[1]
    number = per_channel_constant(other, len(x.shape), channels) if isinstance(channels, int) else None
    if number is None:
        return None
    one, zero = np.ones_like(number), np.zeros_like(number)
    if operator == "Mul":
        return ChannelAffine(x, number, zero)
    if operator == "Add":
        return ChannelAffine(x, one, number)
    if operator == "Sub":
        return ChannelAffine(x, -one, number) if first else ChannelAffine(x, one, -number)
    return ChannelAffine(x, 1 / number, zero) if (number != 0).all() else None


def _normalisation(node: ir.Node) -> ChannelAffine | None:
    """BatchNormalization in inference mode: scale / sqrt(variance + epsilon), and the shift that follows from it."""
    training = node.attributes.get("training_mode")
    numbers = [constant_array(value) for value in node.inputs[1:]]
    if (training and training.as_int()) or len(node.outputs) > 1 or any(number is None for number in numbers):
        return None
    gamma, beta, mean, variance = (np.asarray(number, np.float64) for number in numbers)
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    scale = gamma / np.sqrt(variance + epsilon)
    return ChannelAffine(first_input(node), scale, beta - mean * scale)


def write_channel_affine(site: GraphRewriter, x: ir.Value, scale: Vector, shift: Vector, *, axes: int) -> ir.Value:
    """``scale * x + shift`` as at most two nodes, on a tensor of rank ``axes``."""
    column = (1, -1) + (1,) * (axes - 2)
    if (scale != 1).any():
        x = site.insert("Mul", x, site.add_constant(scale.reshape(column), "scale"))
    if (shift != 0).any():
        x = site.insert("Add", x, site.add_constant(shift.reshape(column), "shift"))
    return x
