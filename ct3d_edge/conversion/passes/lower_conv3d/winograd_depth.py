"""Conv3D(x, w)  ->  MatMul(after, Conv2D(MatMul(before, planes of x), w transformed))       F(m, 3) along depth

::

    planes of x     0 1 2 3 4 5 ...    before: each tile of m + 2 planes becomes m + 2 sums of them
    tiles           [. . . . . .]      Conv2D: m + 2 groups, one a sum, instead of 3 m convolutions
                            [. . .     after:  m planes of output from the m + 2 products

Exact by algebra (see `toom_cook`), rounded a little more: needs a kernel of three planes with stride and dilation one.
Padding along depth is a zero column of ``before`` and costs nothing. The tile is the one that leaves the least to
compute; a tile that does not divide the output makes planes that are cut off again.
"""

from functools import partial
from math import inf

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import Array, GraphRewriter, first_input
from ct3d_edge.conversion.passes.lower_conv3d.depth_im2col import build_conv2d
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import (
    conv_parameters,
    flatten_planes,
    is_volume,
    pad_depth,
    to_planes,
    to_volume,
    volume_shape,
)
from ct3d_edge.conversion.passes.lower_conv3d.winograd_matrices import WinogradMatrices, make_winograd_matrices
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule
from ct3d_edge.conversion.passes.window import Window, WindowAxis, group_count

TAPS = 3
TILE_SIZES = (2, 4, 6)
"""Outputs of a tile. Larger ones save little more and round more."""

MIN_CHANNELS = 8
"""Below, transforming the planes takes longer than what it saves (ONNX Runtime's blocked layout has 8 channels)."""

MAX_DENSE_DEPTH = 32
"""Up to so many planes, one matrix for all tiles is faster than copying the tiles apart first."""


def check(node: ir.Node, *, largest_weights: float = inf) -> RewriteFn | None:
    """Find a 3D convolution that minimal filtering makes cheaper, within so many bytes of weights."""
    if not is_volume(first_input(node)):
        return None
    weights, bias = conv_parameters(node)
    window = Window.from_node(node)
    depth = window.axes[0]
    if (depth.kernel, depth.stride, depth.dilation) != (TAPS, 1, 1):
        raise RewriteRefused("minimal filtering needs a kernel of three planes with stride and dilation one")
    if weights.shape[1] < MIN_CHANNELS:
        raise RewriteRefused(f"minimal filtering does not pay with {weights.shape[1]} input channels")
    tile = choose_tile_size(depth.out)
    if tile is None:
        raise RewriteRefused(f"minimal filtering saves nothing on {depth.out} planes")
    growth = (tile + TAPS - 1) / TAPS
    if weights.nbytes * growth > largest_weights:
        raise RewriteRefused(f"minimal filtering would make its weights {growth:.1f} times as large")
    return partial(_rewrite, node, window, weights, bias, make_winograd_matrices(tile, TAPS))


def choose_tile_size(planes_out: int) -> int | None:
    """The tile with the least convolutions and planes to cut off, None if plain unfolding has no more of them."""
    costs = {tile: _tiles(planes_out, tile) * (2 * tile + TAPS - 1) - planes_out for tile in TILE_SIZES}
    best = min(TILE_SIZES, key=lambda tile: costs[tile])
    return best if costs[best] < TAPS * planes_out else None


def relative_cost(depth: WindowAxis, planes_out: int, channels: int) -> float:
    """Convolutions of a plane by minimal filtering, where it would be used, over those without it."""
    tile = choose_tile_size(planes_out)
    if (depth.kernel, depth.stride, depth.dilation) != (TAPS, 1, 1) or channels < MIN_CHANNELS or tile is None:
        return 1.0
    return _tiles(planes_out, tile) * (tile + TAPS - 1) / (TAPS * planes_out)


def _tiles(planes_out: int, tile: int) -> int:
    return -(-planes_out // tile)


def _rewrite(node: ir.Node, window: Window, weights: Array, bias: Array | None, method: WinogradMatrices) -> None:
    site = GraphRewriter(node)
    form = volume_shape(first_input(node))
    pictures = to_planes(site, first_input(node))
    done = build_winograd_conv(site, node, window, (weights, bias), flatten_planes(site, pictures, form), form, method)
    out = (len(weights), *window.out)
    if window.axes[0].out % method.outputs:
        done = _crop_depth(site, done, out, method.outputs)  # type: ignore[arg-type]  # three axes
    site.replace_output(to_volume(site, done, out))  # type: ignore[arg-type]


def build_winograd_conv(
    site: GraphRewriter,
    node: ir.Node,
    window: Window,
    parameters: tuple[Array, Array | None],
    rows: ir.Value,
    form: tuple[int, int, int, int],
    method: WinogradMatrices,
) -> ir.Value:
    """Planes ``(N * tiles * m, outputs, H', W')`` from rows ``(N, D, C * H * W)``."""
    depth = window.axes[0]
    sums = _transform_input(site, rows, depth, method)
    pictures = site.insert("Reshape", sums, site.add_int64(-1, method.products * form[0], *form[2:]))
    products = _convolved(site, node, window, parameters, pictures, method)
    outputs, (height, width) = len(parameters[0]), window.out[1:]
    apart = site.insert("Reshape", products, site.add_int64(-1, method.products, outputs * height * width))
    back = site.insert("MatMul", site.add_constant(method.output_transform, "after"), apart)
    return site.insert("Reshape", back, site.add_int64(-1, outputs, height, width))


def _transform_input(site: GraphRewriter, rows: ir.Value, depth: WindowAxis, method: WinogradMatrices) -> ir.Value:
    tiles = _tiles(depth.out, method.outputs)
    if depth.size <= MAX_DENSE_DEPTH:
        return site.insert("MatMul", site.add_constant(input_transform_matrix(depth, method, tiles), "before"), rows)
    last = (tiles - 1) * method.outputs + method.products
    rows = pad_depth(site, rows, depth.begin, max(0, last - depth.begin - depth.size))
    indices = (np.arange(tiles)[:, None] * method.outputs + np.arange(method.products)).astype(np.int64)
    apart = site.insert("Gather", rows, site.add_constant(indices, "planes"), axis=1)
    return site.insert("MatMul", site.add_constant(method.input_transform, "before"), apart)


def input_transform_matrix(depth: WindowAxis, method: WinogradMatrices, tiles: int) -> Array:
    """``(tiles * products, planes)``: ``before`` of each tile over the planes that are there."""
    last = (tiles - 1) * method.outputs + method.products
    wide = np.zeros((tiles, method.products, depth.begin + max(depth.size, last)))
    for tile in range(tiles):
        first = tile * method.outputs
        wide[tile, :, first : first + method.products] = method.input_transform
    return wide[:, :, depth.begin : depth.begin + depth.size].reshape(-1, depth.size)


def _convolved(
    site: GraphRewriter,
    node: ir.Node,
    window: Window,
    parameters: tuple[Array, Array | None],
    pictures: ir.Value,
    method: WinogradMatrices,
) -> ir.Value:
    """One group a product. The bias belongs to the point 1, whose product every output contains once."""
    weights, bias = parameters
    transformed = np.einsum("pk,ockhw->pochw", method.kernel_transform, weights.astype(np.float64))
    flat = transformed.reshape(-1, *transformed.shape[2:])
    added = None
    if bias is not None:
        wide = np.zeros((method.products, len(weights)))
        wide[1] = bias
        added = site.add_constant(wide.reshape(-1), "bias")
    return build_conv2d(site, node, window, pictures, flat, added, groups=method.products * group_count(node))


def _crop_depth(site: GraphRewriter, pictures: ir.Value, form: tuple[int, int, int, int], tile: int) -> ir.Value:
    """Only the planes that the convolution has."""
    outputs, depth, height, width = form
    made = _tiles(depth, tile) * tile
    rows = flatten_planes(site, pictures, (outputs, made, height, width))
    cropped = site.insert("Slice", rows, site.add_int64(0), site.add_int64(depth), site.add_int64(1))
    return site.insert("Reshape", cropped, site.add_int64(-1, outputs, height, width))


NAME = "3D convolution by minimal filtering"

RULE = RewriteRule(NAME, frozenset({"Conv"}), check)


def make_limited_rule(largest_weights: int) -> RewriteRule:
    """The rule where transformed weights may take so many bytes a layer."""
    return RewriteRule(NAME, frozenset({"Conv"}), partial(check, largest_weights=largest_weights))
