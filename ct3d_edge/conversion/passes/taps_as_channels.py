"""Conv3D(x, w)  ->  Conv3D(Concat(Slice(x), ...), w reordered)        for few input channels

::

    kernel 3 x 3 x 3, 1 channel                          kernel 3 x 1 x 1, 9 channels
    x  ─ Conv                                     ->     x ─ Pad ─ Slice (0, 0) ─┐
                                                                   ...           ├─ Concat ─ Conv
                                                                   Slice (2, 2) ─┘

Exact for any kernel, stride, dilation and padding: the same products are added. Matrix units and vector instructions of
16 and 8 bits multiply 32 to 64 input channels at once; the only channel of a CT volume leaves the rest of them unused.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from math import prod

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import Array, GraphRewriter, first_input
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import conv_parameters, is_volume
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRule
from ct3d_edge.conversion.passes.window import Window, WindowAxis, group_count

MAX_CHANNELS = 3
"""Input channels of a convolution that is worth it."""

MAX_TAPS = 32
"""Channels of the rewritten convolution: as many as one product of a matrix unit adds up in 16 bits."""

TAP_AXES = ((1, 2), (2,), (1,))
"""Spatial axes whose taps may become channels: rows and columns, or one of them where that would be too many."""

SPATIAL = 2
"""Axis of a tensor ``(N, C, D, H, W)`` where the spatial ones begin."""


def check(node: ir.Node) -> RewriteFn | None:
    """Find a 3D convolution of few channels whose kernel has several taps."""
    if not is_volume(first_input(node)):
        return None
    weights, bias = conv_parameters(node)
    if weights.shape[1] > MAX_CHANNELS or group_count(node) > 1:
        return None
    window = Window.from_node(node)
    axes = _choose_axes(window, weights.shape[1])
    return partial(_rewrite, node, window, axes, weights, bias) if axes else None


def _choose_axes(window: Window, channels: int) -> tuple[int, ...]:
    """The axes of `TAP_AXES` that give most channels within the limit; none if a kernel has one tap along them."""
    for axes in TAP_AXES:
        taps = prod(window.axes[axis].kernel for axis in axes)
        if 1 < taps <= MAX_TAPS // channels:
            return axes
    return ()


def _rewrite(node: ir.Node, window: Window, chosen: tuple[int, ...], weights: Array, bias: Array | None) -> None:
    site = GraphRewriter(node)
    padded = _pad(site, first_input(node), window, chosen)
    axes = {axis: window.axes[axis] for axis in chosen}
    offsets = product(*(range(0, axis.extent, axis.dilation) for axis in axes.values()))
    taps = [_slice_tap(site, padded, axes, offset) for offset in offsets]
    x = site.insert("Concat", *taps, axis=1, what="taps")
    kernel = site.add_constant(move_taps(weights, chosen), "weights")
    rest = Window(tuple(WindowAxis(axis.out, 1) if n in axes else axis for n, axis in enumerate(window.axes)))
    done = site.clone(
        node,
        x,
        kernel,
        *([] if bias is None else [site.add_constant(bias, "bias")]),
        auto_pad=None,
        kernel_shape=rest.kernel,
        strides=rest.strides,
        pads=rest.pads,
        dilations=rest.dilations,
    )
    site.replace_output(done)


def _pad(site: GraphRewriter, x: ir.Value, window: Window, chosen: Collection[int]) -> ir.Value:
    """The volume with zeros along the axes whose taps become channels."""
    axes = [axis if n in chosen else replace(axis, begin=0, end=0) for n, axis in enumerate(window.axes)]
    if not any(axis.padded for axis in axes):
        return x
    pads = [0] * SPATIAL + [axis.begin for axis in axes] + [0] * SPATIAL + [axis.end for axis in axes]
    return site.insert("Pad", x, site.add_int64(*pads))


def _slice_tap(site: GraphRewriter, x: ir.Value, axes: Mapping[int, WindowAxis], offsets: Sequence[int]) -> ir.Value:
    """The voxels under one tap, at a distance from the first tap, for all windows."""
    ends = [first + (axis.out - 1) * axis.stride + 1 for first, axis in zip(offsets, axes.values(), strict=True)]
    return site.insert(
        "Slice",
        x,
        site.add_int64(*offsets),
        site.add_int64(*ends),
        site.add_int64(*(SPATIAL + axis for axis in axes)),
        site.add_int64(*(axis.stride for axis in axes.values())),
    )


def move_taps(weights: Array, axes: Sequence[int]) -> Array:
    """Weights ``(out, in, *kernel)`` with the taps along some spatial axes before the input channels."""
    moved = np.moveaxis(weights, [SPATIAL + axis for axis in axes], list(range(1, 1 + len(axes))))
    left = [1 if axis in axes else length for axis, length in enumerate(weights.shape[SPATIAL:])]
    return moved.reshape(len(weights), -1, *left)


RULE = RewriteRule("taps as channels", frozenset({"Conv"}), check)
