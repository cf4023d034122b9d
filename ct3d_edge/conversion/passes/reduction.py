"""What a ReduceMean or ReduceMax reduces."""

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import constant, data, rank

REDUCTIONS = frozenset({"ReduceMean", "ReduceMax"})


def reduced_axes(node: ir.Node) -> tuple[tuple[int, ...] | None, bool]:
    """Axes counted from the front, and whether they stay with length one.

    The axes are None where they cannot be known before the network runs, or where there are none.
    """
    keep = "keepdims" not in node.attributes or bool(node.attributes["keepdims"].as_int())
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = rank(data(node))
    if given is None or axes is None or given.size == 0:
        return None, keep
    return tuple(sorted(int(axis) % axes for axis in given.reshape(-1))), keep
