"""MaxPool3D(x)  ->  max over depth of MaxPool2D(planes of x)        the same for AveragePool3D

Exact: a maximum, or an average, over a box is that over its planes of that over each plane; where padding is excluded
from an average, the voxels of a box at the border are a box too. Along depth, planes of windows without overlap are
reduced directly; otherwise depth is pooled as the rows of an image ``(D, C * H * W)``.
"""

from functools import partial

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import GraphRewriter, first_input
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import (
    flatten_planes,
    is_volume,
    to_planes,
    to_volume,
    volume_shape,
)
from ct3d_edge.conversion.passes.lower_conv3d.row_interleave import build_pool2d
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule
from ct3d_edge.conversion.passes.window import POOLS, Window, WindowAxis

REDUCTION = {"MaxPool": "ReduceMax", "AveragePool": "ReduceMean"}


def check(node: ir.Node) -> RewriteFn | None:
    """Find a 3D pooling."""
    if not is_volume(first_input(node)):
        return None
    if len(node.outputs) > 1:
        raise RewriteRefused("it also tells where the maxima are")
    return partial(_rewrite, node, Window.from_node(node))


def _rewrite(node: ir.Node, window: Window) -> None:
    site = GraphRewriter(node)
    form = volume_shape(first_input(node))
    x = to_planes(site, first_input(node))
    producer = x.producer()
    blocked = producer is not None and producer.op_type in ("Conv", "Relu", "LeakyRelu")
    if blocked:  # 2D pooling stays in the runtime's blocked layout, pooling of depth does not
        x, form = _in_plane(site, node, window, x, form)
        x, form = _over_depth(site, node, window.axes[0], x, form)
    else:
        x, form = _over_depth(site, node, window.axes[0], x, form)
        x, form = _in_plane(site, node, window, x, form)
    site.replace_output(to_volume(site, x, form))


def _in_plane(
    site: GraphRewriter, node: ir.Node, window: Window, x: ir.Value, form: tuple[int, int, int, int]
) -> tuple[ir.Value, tuple[int, int, int, int]]:
    flat = Window(window.axes[1:])
    if all(axis.is_pointwise for axis in flat.axes):
        return x, form
    return build_pool2d(site, node, flat, x), (form[0], form[1], flat.out[0], flat.out[1])


def _over_depth(
    site: GraphRewriter, node: ir.Node, depth: WindowAxis, x: ir.Value, form: tuple[int, int, int, int]
) -> tuple[ir.Value, tuple[int, int, int, int]]:
    channels, _, height, width = form
    if depth.is_pointwise:
        return x, form
    rows = flatten_planes(site, x, form)
    pooled = (
        _side_by_side(site, node, depth, rows, form) if depth.is_tiling else _as_picture(site, node, depth, rows, form)
    )
    after = (channels, depth.out, height, width)
    return site.insert("Reshape", pooled, site.add_int64(-1, channels, height, width)), after


def _side_by_side(
    site: GraphRewriter, node: ir.Node, depth: WindowAxis, rows: ir.Value, form: tuple[int, int, int, int]
) -> ir.Value:
    if depth.out * depth.kernel < depth.size:
        end = site.add_int64(depth.out * depth.kernel)
        rows = site.insert("Slice", rows, site.add_int64(0), end, site.add_int64(1))
    values = form[0] * form[2] * form[3]
    apart = site.insert("Reshape", rows, site.add_int64(-1, depth.kernel, values))
    return site.insert(REDUCTION[node.op_type], apart, site.add_int64(1), keepdims=0)


def _as_picture(
    site: GraphRewriter, node: ir.Node, depth: WindowAxis, rows: ir.Value, form: tuple[int, int, int, int]
) -> ir.Value:
    picture = site.insert("Reshape", rows, site.add_int64(-1, 1, depth.size, form[0] * form[2] * form[3]))
    return build_pool2d(site, node, Window((depth, WindowAxis(form[0] * form[2] * form[3], 1))), picture)


RULE = RewriteRule("3D pooling plane by plane", POOLS, check)
