"""ReduceMean(volume of planes, (2, 3, 4))  ->  ReduceMean(ReduceMean(planes, (2, 3)), depth)      ReduceMax alike

GlobalAveragePool(x)  ->  ReduceMean(x, (2, 3, 4))                                                GlobalMaxPool alike

Exact: all planes have equally many voxels. One reduction over depth, height and width of ``(N, D, C, H, W)`` would be
slower and less exact: there ONNX Runtime adds number by number, over the last axes in vectors and partial sums.
"""

from functools import partial

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import REDUCE_OPS, GraphRewriter, first_input, reduced_axes
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import find_planes, is_volume, volume_shape
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule

GLOBAL = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}
SPACE = (2, 3, 4)


def check(node: ir.Node) -> RewriteFn | None:
    """Find a global pooling of a volume, or a reduction of one that was put together from planes."""
    if not is_volume(first_input(node)):
        return None
    if node.op_type in GLOBAL:
        return partial(_write_explicit_axes, node)
    pictures = find_planes(first_input(node))
    if pictures is None:
        return None
    axes, keep = reduced_axes(node)
    if axes != SPACE:
        raise RewriteRefused(f"it reduces other axes than those of space: {axes}")
    return partial(_reduce, node, pictures, keep)


def _write_explicit_axes(node: ir.Node) -> None:
    site = GraphRewriter(node)
    site.replace_output(site.insert(GLOBAL[node.op_type], node.inputs[0], site.add_int64(*SPACE), keepdims=1))


def _reduce(node: ir.Node, pictures: ir.Value, keep: bool) -> None:
    site = GraphRewriter(node)
    channels, depth, _, _ = volume_shape(first_input(node))
    planes = site.insert(node.op_type, pictures, site.add_int64(2, 3), keepdims=0)
    apart = site.insert("Reshape", planes, site.add_int64(-1, depth, channels))
    pooled = site.insert(node.op_type, apart, site.add_int64(1), keepdims=0)
    site.replace_output(site.insert("Reshape", pooled, site.add_int64(-1, channels, 1, 1, 1)) if keep else pooled)


RULE = RewriteRule("global pooling on planes", REDUCE_OPS | frozenset(GLOBAL), check)
