"""MaxPool3D(Relu(Conv3D(x)))  ->  MaxPool2D(Relu(Conv2D(planes of a pooling window in alternating rows)))

::

    planes 2p, 2p + 1       image p, row 2h + j: row h of plane 2p + j
    a a a      b b b        a a a      convolution with twice the dilation along rows stays within one plane;
    a a a      b b b        b b b      pooling over twice the rows takes the maximum over both planes
                            a a a
                            b b b

Exact: every value is computed as before. There is no maximum over depth any more, and the runtime stays in its blocked
2D layout. Needs pooling windows that touch without overlap along depth, and a convolution with stride one along rows;
it is faster where few input channels make the copies small compared with the output.
"""

from functools import partial

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import Array, GraphRewriter, first_input, only_consumer
from ct3d_edge.conversion.passes.lower_conv3d.depth_im2col import build_conv2d, gather_planes, kernel_plane_indices
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import (
    conv_parameters,
    is_volume,
    to_planes,
    to_volume,
    volume_shape,
)
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRule
from ct3d_edge.conversion.passes.window import Window, WindowAxis, group_count

ACTIVATIONS = frozenset({"Relu", "LeakyRelu"})


def check(node: ir.Node) -> RewriteFn | None:
    """Find a max pooling behind a convolution of few channels, with an activation between them or not."""
    if not is_volume(first_input(node)) or len(node.outputs) > 1:
        return None
    activation = first_input(node).producer()
    if activation is not None and activation.op_type not in ACTIVATIONS:
        activation = None
    features = first_input(activation) if activation else first_input(node)
    convolution = features.producer()
    alone = only_consumer(features) and only_consumer(first_input(node))
    if convolution is None or convolution.op_type != "Conv" or not alone or group_count(convolution) != 1:
        return None
    window, pool = Window.from_node(convolution), Window.from_node(node)
    weights, bias = conv_parameters(convolution)
    depth, rows = pool.axes[:2]
    fits = depth.kernel == depth.stride > 1 and not depth.padded and depth.dilation == rows.dilation == 1
    small = weights.shape[1] * weights.shape[2] * 2 <= len(weights)
    if not fits or not small or window.axes[1].stride != 1 or depth.ceil or rows.ceil:
        return None
    return partial(_rewrite, node, activation, convolution, (window, pool), (weights, bias))


def _rewrite(
    node: ir.Node,
    activation: ir.Node | None,
    convolution: ir.Node,
    windows: tuple[Window, Window],
    parameters: tuple[Array, Array | None],
) -> None:
    site = GraphRewriter(node)
    weights, bias = parameters
    window, pool = windows
    pair = pool.axes[0].kernel
    pictures = _interleave_planes(site, first_input(convolution), window.axes[0], pool.axes[0])
    flat = np.moveaxis(weights, 2, 1).reshape(len(weights), -1, *weights.shape[3:])
    added = None if bias is None else site.add_constant(bias, "bias")
    wide = Window((window.axes[0], interleave_conv_rows(window.axes[1], pair), window.axes[2]))
    x = build_conv2d(site, convolution, wide, pictures, flat, added)
    x = site.clone(activation, x) if activation else x
    taller = (interleave_pool_rows(pool.axes[1], pair), pool.axes[2])
    x = build_pool2d(site, node, Window(taller), x)
    site.replace_output(to_volume(site, x, (len(weights), *pool.out)))  # type: ignore[arg-type]  # three axes


def _interleave_planes(site: GraphRewriter, x: ir.Value, depth: WindowAxis, pool: WindowAxis) -> ir.Value:
    """``(N * pooled planes, kernel * C, planes of a window * H, W)``."""
    form = volume_shape(x)
    channels, _, height, width = form
    pair = pool.kernel
    under = kernel_plane_indices(depth)[: pool.out * pair].reshape(pool.out, pair, depth.kernel)
    indices = under.transpose(0, 2, 1).reshape(-1)  # pooled plane, plane under the kernel, plane of the window
    apart = gather_planes(site, to_planes(site, x), form, depth, indices, channels=channels)
    grouped = site.insert("Reshape", apart, site.add_int64(-1, pair, channels * height, width))
    turned = site.insert("Transpose", grouped, perm=[0, 2, 1, 3])
    return site.insert("Reshape", turned, site.add_int64(-1, depth.kernel * channels, pair * height, width))


def interleave_conv_rows(rows: WindowAxis, pair: int) -> WindowAxis:
    """Axis of the convolution's rows when those of ``pair`` planes alternate."""
    return WindowAxis(
        rows.size * pair, rows.kernel, 1, rows.begin * pair, rows.end * pair, dilation=rows.dilation * pair
    )


def interleave_pool_rows(rows: WindowAxis, pair: int) -> WindowAxis:
    """Axis of the pooling's rows when those of ``pair`` planes alternate."""
    return WindowAxis(rows.size * pair, rows.kernel * pair, rows.stride * pair, rows.begin * pair, rows.end * pair)


def build_pool2d(site: GraphRewriter, node: ir.Node, window: Window, x: ir.Value) -> ir.Value:
    """A 2D pooling of the kind of a 3D one."""
    dilations = window.dilations if any(axis.dilation > 1 for axis in window.axes) else None
    ceil = 1 if any(axis.ceil for axis in window.axes) else None
    return site.clone(
        node,
        x,
        auto_pad=None,
        kernel_shape=window.kernel,
        strides=window.strides,
        pads=window.pads,
        dilations=dilations,
        ceil_mode=ceil,
    )


RULE = RewriteRule("convolution and pooling in alternating rows", frozenset({"MaxPool"}), check)
