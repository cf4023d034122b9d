"""Relu(volume of planes)  ->  volume of Relu(planes)        and other operators on one voxel, or one channel

Exact: the same operation on the same numbers in another order of axes. Of a second volume, the planes
are used too; constants with one number per channel lose an axis.
"""

from functools import partial

import onnx_ir as ir

from ct3d_edge.conversion.passes.cancel_transposes import ELEMENTWISE_BINARY, ELEMENTWISE_UNARY
from ct3d_edge.conversion.passes.graph import GraphRewriter, constant_array, per_channel_constant, sample_shape
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import (
    find_planes,
    is_volume,
    to_planes,
    to_volume,
    volume_shape,
)
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRule

CHANNELWISE = frozenset({"BatchNormalization"})
"""Operators whose first input is the tensor, and the others one number per channel."""


def check(node: ir.Node) -> RewriteFn | None:
    """Find an operator on a volume of planes."""
    given = [value for value in node.inputs if value is not None]
    found = next((value for value in given if find_planes(value) is not None), None)
    if found is None or len(node.outputs) > 1:
        return None
    form = volume_shape(found)
    fits = all(_fits(value, form) for value in (given[:1] if node.op_type in CHANNELWISE else given))
    return partial(_rewrite, node, form) if fits else None


def _fits(value: ir.Value, form: tuple[int, int, int, int]) -> bool:
    if constant_array(value) is not None:
        return per_channel_constant(value, 5, form[0]) is not None
    return is_volume(value) and sample_shape(value) == form


def _rewrite(node: ir.Node, form: tuple[int, int, int, int]) -> None:
    site = GraphRewriter(node)
    inputs = [
        value if value is None or (node.op_type in CHANNELWISE and index) else _value_as_planes(site, value, form[0])
        for index, value in enumerate(node.inputs)
    ]
    site.replace_output(to_volume(site, site.clone(node, *inputs), form))


def _value_as_planes(site: GraphRewriter, value: ir.Value, channels: int) -> ir.Value:
    array = constant_array(value)
    if array is None:
        return to_planes(site, value)
    one_each = (1, channels, 1, 1) if array.size > 1 else (1, 1, 1, 1)
    return site.add_constant(array.reshape(one_each), "per_channel")


RULE = RewriteRule("elementwise on planes", ELEMENTWISE_UNARY | ELEMENTWISE_BINARY | CHANNELWISE, check)
