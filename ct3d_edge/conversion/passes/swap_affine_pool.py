"""MaxPool(x * s + t)  ->  MaxPool(x) * s + t        where s > 0

AveragePool(x * s + t)  ->  AveragePool(x) * s + t   where t = 0, or no padding is averaged in
ReduceMean(x * s + t)  ->  ReduceMean(x) * s + t     over spatial axes; ReduceMax as MaxPool

An increasing map preserves the maximum, and an average is linear. After the pooling there is an eighth of the work, and
the map can be folded into the next layer.
"""

from functools import partial

import onnx_ir as ir

from ct3d_edge.conversion.passes import channel_affine as affines
from ct3d_edge.conversion.passes.channel_affine import ChannelAffine, read_channel_affine
from ct3d_edge.conversion.passes.graph import GraphRewriter, only_pool, reduced_axes
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule
from ct3d_edge.conversion.passes.window import Window, counts_padding

INCREASING_POOLS = frozenset({"MaxPool", "ReduceMax", "GlobalMaxPool"})
LINEAR_POOLS = frozenset({"AveragePool", "ReduceMean", "GlobalAveragePool"})


def check(node: ir.Node) -> RewriteFn | None:
    """Find an affine map whose only use is a pooling over space."""
    affine = read_channel_affine(node)
    if affine is None or affine.axes < 3:
        return None
    pool = only_pool(node, INCREASING_POOLS | LINEAR_POOLS)
    if pool is None:
        return None
    if pool.op_type in INCREASING_POOLS and not (affine.scale > 0).all():
        raise RewriteRefused("it has factors that are not positive, under which a maximum becomes a minimum")
    if (
        pool.op_type == "AveragePool"
        and counts_padding(pool)
        and Window.from_node(pool).padded
        and (affine.shift != 0).any()
    ):
        raise RewriteRefused(f"{pool.name} averages zeros of the padding, which the added term does not reach")
    axes = _axes_left(pool, affine)
    return partial(_move, pool, affine, axes) if axes else None


def _axes_left(pool: ir.Node, affine: ChannelAffine) -> int:
    """Rank after the pooling; 0 if it reduces the channels."""
    if not pool.op_type.startswith("Reduce"):
        return affine.axes
    axes, keep = reduced_axes(pool)
    if axes is None or any(axis < 2 for axis in axes):
        return 0
    return affine.axes if keep else affine.axes - len(axes)


def _move(pool: ir.Node, affine: ChannelAffine, axes: int) -> None:
    site = GraphRewriter(pool)
    pooled = site.clone(pool, affine.x, *pool.inputs[1:])
    site.replace_output(affines.write_channel_affine(site, pooled, affine.scale, affine.shift, axes=axes))


RULE = RewriteRule("normalise behind the pooling", affines.OPERATORS, check)
