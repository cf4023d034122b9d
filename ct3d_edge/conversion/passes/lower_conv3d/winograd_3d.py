"""MaxPool(Relu(Conv3D(x, w) + b))  ->  Relu(MaxPool(after (before x @ w transformed)) + b)       F(m, 3) along all axes

::

    x, channels last     [ . . . . . . ]        before:  a tile of (m + 2)^3 voxels becomes (m + 2)^3 sums of them
    along each axis      [. . . .]              product: for each sum, (tiles, inputs) @ (inputs, outputs)
                             [. . . .]          after:   m^3 voxels of output, pooled before they are put in order

Exact by algebra (see `toom_cook`), rounded more than along depth alone. A tile of 4 * 4 * 4 voxels takes 216 products
instead of 1728. What is left is a plain product of matrices for each of them, and steps over memory, so a few tiles
along depth at a time, and channels last: everything is contiguous, and tiles are copied apart channels at a time.

Needs a kernel of three voxels with stride and dilation one along every axis, and no groups. It is done where it costs
clearly less than minimal filtering along depth: not with few channels, nor with a few tiles and large weights.
A ReLU behind the convolution, and a max pooling that divides the tiles, are taken along; any other node stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import prod

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import Array, GraphRewriter, first_input, only_consumer
from ct3d_edge.conversion.passes.lower_conv3d.channels_last import (
    ChannelsLastInput,
    from_channels_last,
    to_channels_last,
)
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import conv_parameters, is_volume
from ct3d_edge.conversion.passes.lower_conv3d.winograd_depth import TAPS, relative_cost
from ct3d_edge.conversion.passes.lower_conv3d.winograd_tiles import Tiling, cheapest_tiling
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule
from ct3d_edge.conversion.passes.window import Window, group_count

MAX_RELATIVE_COST = 0.8
"""Of what minimal filtering along depth takes, which has steps over memory of its own, it may take at most so much."""


@dataclass(frozen=True, eq=False)
class FusedChain:
    """A convolution and what follows it and is computed with it.

    Parameters
    ----------
    last
        The convolution, its ReLU or its pooling.
    has_relu
        Whether there is a ReLU.
    pool_size
        Voxels of a pooling window along each axis; ones if there is no pooling.
    """

    last: ir.Node
    has_relu: bool
    pool_size: tuple[int, int, int]


def check(node: ir.Node, *, worthwhile: float = MAX_RELATIVE_COST) -> RewriteFn | None:
    """Find a 3D convolution that tiles along all axes make cheaper, so many times what depth alone takes."""
    if not is_volume(first_input(node)):
        return None
    weights, bias = conv_parameters(node)
    window = Window.from_node(node)
    if any((axis.kernel, axis.stride, axis.dilation) != (TAPS, 1, 1) for axis in window.axes):
        raise RewriteRefused("minimal filtering along all axes needs three voxels along each, stride and dilation one")
    if group_count(node) > 1:
        raise RewriteRefused("minimal filtering along all axes needs a convolution without groups")
    outputs, inputs = weights.shape[:2]
    chain = _find_fused_chain(node)
    tiling = cheapest_tiling(window, chain.pool_size, inputs, outputs)
    limit = worthwhile * weights.size * prod(window.out) * relative_cost(window.axes[0], window.axes[0].out, inputs)
    if tiling is None or tiling.cost > limit:
        raise RewriteRefused(f"minimal filtering along all axes does not pay with {inputs} and {outputs} channels here")
    return partial(_rewrite, node, chain, tiling, weights, bias)


def _find_fused_chain(node: ir.Node) -> FusedChain:
    """What can be computed with a convolution: a ReLU, a max pooling that divides some tile."""
    behind = only_consumer(node.outputs[0])
    activated = behind is not None and behind.op_type == "Relu"
    last = behind if behind is not None and activated else node
    pooling = only_consumer(last.outputs[0])
    if pooling is None or pooling.op_type != "MaxPool" or len(pooling.outputs) > 1:
        return FusedChain(last, activated, (1, 1, 1))
    axes = Window.from_node(pooling).axes
    if not all(axis.is_tiling and axis.kernel in (1, 2, 3) for axis in axes):
        return FusedChain(last, activated, (1, 1, 1))
    return FusedChain(pooling, activated, tuple(axis.kernel for axis in axes))  # type: ignore[arg-type]  # three axes


def _rewrite(node: ir.Node, chain: FusedChain, tiling: Tiling, weights: Array, bias: Array | None) -> None:
    site = GraphRewriter(node)
    x = to_channels_last(site, first_input(node), tiling.window)
    matrices = _Matrices.of(site, tiling, weights)
    parts = [_block(site, x, tiling, matrices, chain.pool_size, *edges) for edges in tiling.blocks()]
    done = parts[0] if len(parts) == 1 else site.insert("Concat", *parts, axis=1)
    done = _crop_output(site, done, tiling, chain.pool_size)
    if bias is not None:
        done = site.insert("Add", done, site.add_constant(bias, "bias"))
    if chain.has_relu:
        done = site.insert("Relu", done)
    site.replace_output(from_channels_last(site, done), of=chain.last.outputs[0])


@dataclass(frozen=True, eq=False)
class _Matrices:
    """Constants that blocks share; ``tiles`` by the number of tiles along depth."""

    tile_indices_by_count: dict[int, ir.Value]
    before: tuple[ir.Value, ...]
    weights: ir.Value
    after: tuple[ir.Value, ...]

    @classmethod
    def of(cls, site: GraphRewriter, tiling: Tiling, weights: Array) -> "_Matrices":
        depth, rows, columns = (method.kernel_transform for method in tiling.axis_matrices)
        transformed = np.einsum("ai,bj,ck,oxijk->abcxo", depth, rows, columns, weights.astype(np.float64))
        thick = sorted({last - first for first, last in tiling.blocks()})
        return cls(
            {count: site.add_constant(tiling.tile_indices(count), "tiles") for count in thick},
            tuple(site.add_constant(method.input_transform, "before") for method in tiling.axis_matrices[1:]),
            site.add_constant(transformed.reshape(tiling.products, tiling.inputs, tiling.channels), "weights"),
            tuple(site.add_constant(method.output_transform, "after") for method in tiling.axis_matrices),
        )


def _block(
    site: GraphRewriter,
    x: ChannelsLastInput,
    tiling: Tiling,
    matrices: _Matrices,
    pool: tuple[int, ...],
    first: int,
    last: int,
) -> ir.Value:
    """Pooled voxels ``(N, D', H', W', outputs)`` of the tiles ``first`` to ``last`` along depth."""
    sums = _transform_input(site, x, tiling, matrices, first, last)
    tiles = (last - first, *tiling.counts[1:])
    apart = site.insert("Reshape", sums, site.add_int64(-1, tiling.products, prod(tiles), tiling.inputs))
    products = site.insert("MatMul", apart, matrices.weights)
    sizes = [method.products for method in tiling.axis_matrices]
    done = _along_axes(site, products, matrices.after, sizes, prod(tiles) * tiling.channels)
    within = [outputs // size for outputs, size in zip(tiling.outputs, pool, strict=True)]
    done = _pool_tiles(site, done, within, pool, prod(tiles) * tiling.channels)
    return _restore_order(site, done, within, tiles, tiling.channels)


def _transform_input(
    site: GraphRewriter, x: ChannelsLastInput, tiling: Tiling, matrices: _Matrices, first: int, last: int
) -> ir.Value:
    """Sums ``(N * products along depth * products along rows, products along columns, tiles * C)``."""
    low, high, matrix = tiling.depth_transform(first, last)
    planes = site.insert("MatMul", site.add_constant(matrix, "before"), x.planes(site, low, high))
    flat = site.insert("Reshape", planes, site.add_int64(-1, (last - first) * x.height * x.width, tiling.inputs))
    apart = site.insert("Gather", flat, matrices.tile_indices_by_count[last - first], axis=1)
    sizes = [method.products for method in tiling.axis_matrices[1:]]
    values = (last - first) * prod(tiling.counts[1:]) * tiling.inputs
    return _along_axes(site, apart, matrices.before, sizes, values)


def _along_axes(
    site: GraphRewriter, x: ir.Value, matrices: Sequence[ir.Value], sizes: Sequence[int], values: int
) -> ir.Value:
    """A matrix along each of the axes in front of so many values, the outermost axis first."""
    for place, (matrix, size) in enumerate(zip(matrices, sizes, strict=True)):
        apart = site.insert("Reshape", x, site.add_int64(-1, size, prod(sizes[place + 1 :]) * values))
        x = site.insert("MatMul", matrix, apart)
    return x


def _pool_tiles(site: GraphRewriter, x: ir.Value, within: Sequence[int], pool: Sequence[int], values: int) -> ir.Value:
    """The maximum within each tile over windows along columns, rows and depth."""
    for size, pooled in zip(reversed(pool), reversed(within), strict=True):
        if size > 1:
            apart = site.insert("Reshape", x, site.add_int64(-1, size, values))
            x = site.insert("ReduceMax", apart, site.add_int64(1), keepdims=0)
        values *= pooled
    return x


def _restore_order(
    site: GraphRewriter, x: ir.Value, within: Sequence[int], tiles: Sequence[int], channels: int
) -> ir.Value:
    """``(N, depth, rows and columns within a tile, tiles, outputs)`` as ``(N, D', H', W', outputs)``."""
    apart = site.insert("Reshape", x, site.add_int64(-1, *within, *tiles, channels))
    turned = site.insert("Transpose", apart, perm=[0, 4, 1, 5, 2, 6, 3, 7])
    sizes = [a * b for a, b in zip(within, tiles, strict=True)]
    return site.insert("Reshape", turned, site.add_int64(-1, *sizes, channels))


def _crop_output(site: GraphRewriter, x: ir.Value, tiling: Tiling, pool: Sequence[int]) -> ir.Value:
    """Only the voxels that there are."""
    made = [count * m // size for count, m, size in zip(tiling.counts, tiling.outputs, pool, strict=True)]
    sizes = [out // size for out, size in zip(tiling.window.out, pool, strict=True)]
    if made == sizes:
        return x
    return site.insert("Slice", x, site.add_int64(0, 0, 0), site.add_int64(*sizes), site.add_int64(1, 2, 3))


RULE = RewriteRule("3D convolution by minimal filtering along all axes", frozenset({"Conv"}), check)
