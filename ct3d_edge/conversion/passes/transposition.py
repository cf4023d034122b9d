"""The order of axes that a Transpose makes."""

from collections.abc import Sequence

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import data, rank


def permutation(node: ir.Node) -> tuple[int, ...] | None:
    """Output axis to input axis; None if the node is no Transpose."""
    if node.op_type != "Transpose":
        return None
    if "perm" in node.attributes:
        return tuple(node.attributes["perm"].as_ints())
    axes = rank(data(node))
    return None if axes is None else tuple(reversed(range(axes)))


def after(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """One permutation that does what two in a row do."""
    return tuple(first[axis] for axis in second)


def inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(order.index(axis) for axis in range(len(order)))
