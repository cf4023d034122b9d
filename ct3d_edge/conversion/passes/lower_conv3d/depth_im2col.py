"""Conv3D(x, w)  ->  Conv2D(planes under the kernel as channels, w reordered)

::

    planes      0 1 2 3 4          image 0: channels of planes 0 1 2
    kernel 3    [. . .]     ->     image 1: channels of planes 1 2 3
                  [. . .]          image 2: channels of planes 2 3 4

Exact for any kernel, stride, dilation and padding: the same products are added. With groups the kernel's planes cannot
be channels side by side; then each plane of the kernel is a 2D convolution of its own, and the results are added.
"""

from functools import partial

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import Array, GraphRewriter, first_input
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import (
    conv_parameters,
    flatten_planes,
    is_volume,
    pad_depth,
    to_planes,
    to_volume,
    volume_shape,
)
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRule
from ct3d_edge.conversion.passes.window import Window, WindowAxis, group_count


def check(node: ir.Node) -> RewriteFn | None:
    """Find a 3D convolution."""
    if not is_volume(first_input(node)):
        return None
    weights, bias = conv_parameters(node)
    return partial(_rewrite, node, Window.from_node(node), weights, bias)


def _rewrite(node: ir.Node, window: Window, weights: Array, bias: Array | None) -> None:
    site = GraphRewriter(node)
    added = None if bias is None else site.add_constant(bias, "bias")
    form = volume_shape(first_input(node))
    pictures = to_planes(site, first_input(node))
    make = _lower_dense if group_count(node) == 1 else _lower_grouped
    done = make(site, node, window, weights, pictures, form, added)
    site.replace_output(to_volume(site, done, (len(weights), *window.out)))  # type: ignore[arg-type]  # three axes


def _lower_dense(
    site: GraphRewriter,
    node: ir.Node,
    window: Window,
    weights: Array,
    pictures: ir.Value,
    form: tuple[int, int, int, int],
    bias: ir.Value | None,
) -> ir.Value:
    """All planes of the kernel as channels of one 2D convolution."""
    depth = window.axes[0]
    if not depth.is_pointwise:
        indices = kernel_plane_indices(depth).reshape(-1)
        pictures = gather_planes(site, pictures, form, depth, indices, channels=depth.kernel * form[0])
    flat = np.moveaxis(weights, 2, 1).reshape(len(weights), -1, *weights.shape[3:])
    return build_conv2d(site, node, window, pictures, flat, bias)


def _lower_grouped(
    site: GraphRewriter,
    node: ir.Node,
    window: Window,
    weights: Array,
    pictures: ir.Value,
    form: tuple[int, int, int, int],
    bias: ir.Value | None,
) -> ir.Value:
    """One 2D convolution for each plane of the kernel."""
    depth = window.axes[0]
    total: ir.Value | None = None
    for tap in range(depth.kernel):
        x = pictures
        if not depth.is_pointwise:
            x = gather_planes(site, pictures, form, depth, kernel_plane_indices(depth)[:, tap], channels=form[0])
        part = build_conv2d(site, node, window, x, weights[:, :, tap], bias if tap == 0 else None)
        total = part if total is None else site.insert("Add", total, part)
    if total is None:
        raise ValueError("a kernel of no planes")
    return total


def kernel_plane_indices(depth: WindowAxis) -> Array:
    """``(windows, kernel)``: the padded planes under each window."""
    first = np.arange(depth.out) * depth.stride
    return np.asarray(first[:, None] + np.arange(depth.kernel) * depth.dilation)


def gather_planes(
    site: GraphRewriter,
    pictures: ir.Value,
    form: tuple[int, int, int, int],
    depth: WindowAxis,
    indices: Array,
    *,
    channels: int,
) -> ir.Value:
    """Planes in the order of ``indices`` (counted with the padding) as images of ``channels`` channels."""
    rows = pad_depth(site, flatten_planes(site, pictures, form), depth.begin, depth.end)
    chosen = site.insert("Gather", rows, site.add_constant(indices.astype(np.int64), "planes"), axis=1)
    return site.insert("Reshape", chosen, site.add_int64(-1, channels, *form[2:]))


def build_conv2d(
    site: GraphRewriter,
    node: ir.Node,
    window: Window,
    pictures: ir.Value,
    weights: Array,
    bias: ir.Value | None,
    *,
    groups: int | None = None,
) -> ir.Value:
    """The 2D convolution with the window of a 3D one along height and width, by default with its groups."""
    flat = Window(window.axes[1:])
    inputs = [pictures, site.add_constant(weights, "weights"), *([] if bias is None else [bias])]
    return site.clone(
        node,
        *inputs,
        auto_pad=None,
        group=group_count(node) if groups is None else groups,
        kernel_shape=flat.kernel,
        strides=flat.strides,
        pads=flat.pads,
        dilations=flat.dilations,
    )


RULE = RewriteRule("3D convolution by depth unfolding", frozenset({"Conv"}), check)
