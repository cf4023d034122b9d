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

from ct3d_edge.conversion.passes.graph import Array, GraphRewriter, data, only_consumer
from ct3d_edge.conversion.passes.lower_conv3d.channels_last import ChannelsLastInput, channels_last, volume_of_last
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import is_volume, weights_of
from ct3d_edge.conversion.passes.lower_conv3d.winograd_depth import TAPS, saving
from ct3d_edge.conversion.passes.lower_conv3d.winograd_tiles import Tiling, cheapest_tiling
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule
from ct3d_edge.conversion.passes.window import Window, group_count

WORTHWHILE = 0.8
"""Of what minimal filtering along depth takes, which has steps over memory of its own, it may take at most so much."""


@dataclass(frozen=True, eq=False)
class Chain:
    """A convolution and what follows it and is computed with it.

    Parameters
    ----------
    last
        The convolution, its ReLU or its pooling.
    activated
        Whether there is a ReLU.
    pool
        Voxels of a pooling window along each axis; ones if there is no pooling.
    """

    last: ir.Node
    activated: bool
    pool: tuple[int, int, int]


def check(node: ir.Node, *, worthwhile: float = WORTHWHILE) -> RewriteFn | None:
    """Find a 3D convolution that tiles along all axes make cheaper, so many times what depth alone takes."""
    if not is_volume(data(node)):
        return None
    weights, bias = weights_of(node)
    window = Window.of(node)
    if any((axis.kernel, axis.stride, axis.dilation) != (TAPS, 1, 1) for axis in window.axes):
        raise RewriteRefused("minimal filtering along all axes needs three voxels along each, stride and dilation one")
    if group_count(node) > 1:
        raise RewriteRefused("minimal filtering along all axes needs a convolution without groups")
    outputs, inputs = weights.shape[:2]
    chain = _chain(node)
    tiling = cheapest_tiling(window, chain.pool, inputs, outputs)
    limit = worthwhile * weights.size * prod(window.out) * saving(window.axes[0], window.axes[0].out, inputs)
    if tiling is None or tiling.cost > limit:
        raise RewriteRefused(f"minimal filtering along all axes does not pay with {inputs} and {outputs} channels here")
    return partial(_rewrite, node, chain, tiling, weights, bias)


def _chain(node: ir.Node) -> Chain:
    """What can be computed with a convolution: a ReLU, a max pooling that divides some tile."""
    behind = only_consumer(node.outputs[0])
    activated = behind is not None and behind.op_type == "Relu"
    last = behind if behind is not None and activated else node
    pooling = only_consumer(last.outputs[0])
    if pooling is None or pooling.op_type != "MaxPool" or len(pooling.outputs) > 1:
        return Chain(last, activated, (1, 1, 1))
    axes = Window.of(pooling).axes
    if not all(axis.plain and axis.kernel in (1, 2, 3) for axis in axes):
        return Chain(last, activated, (1, 1, 1))
    return Chain(pooling, activated, tuple(axis.kernel for axis in axes))  # type: ignore[arg-type]  # three axes


def _rewrite(node: ir.Node, chain: Chain, tiling: Tiling, weights: Array, bias: Array | None) -> None:
    site = GraphRewriter(node)
    x = channels_last(site, data(node), tiling.window)
    matrices = _Matrices.of(site, tiling, weights)
    parts = [_block(site, x, tiling, matrices, chain.pool, *edges) for edges in tiling.blocks()]
    done = parts[0] if len(parts) == 1 else site.op("Concat", *parts, axis=1)
    done = _cut(site, done, tiling, chain.pool)
    if bias is not None:
        done = site.op("Add", done, site.constant(bias, "bias"))
    if chain.activated:
        done = site.op("Relu", done)
    site.finish(volume_of_last(site, done), of=chain.last.outputs[0])


@dataclass(frozen=True, eq=False)
class _Matrices:
    """Constants that blocks share; ``tiles`` by the number of tiles along depth."""

    tiles: dict[int, ir.Value]
    before: tuple[ir.Value, ...]
    weights: ir.Value
    after: tuple[ir.Value, ...]

    @classmethod
    def of(cls, site: GraphRewriter, tiling: Tiling, weights: Array) -> "_Matrices":
        depth, rows, columns = (method.kernel for method in tiling.methods)
        transformed = np.einsum("ai,bj,ck,oxijk->abcxo", depth, rows, columns, weights.astype(np.float64))
        thick = sorted({last - first for first, last in tiling.blocks()})
        return cls(
            {count: site.constant(tiling.under_tiles(count), "tiles") for count in thick},
            tuple(site.constant(method.before, "before") for method in tiling.methods[1:]),
            site.constant(transformed.reshape(tiling.products, tiling.inputs, tiling.channels), "weights"),
            tuple(site.constant(method.after, "after") for method in tiling.methods),
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
    sums = _before(site, x, tiling, matrices, first, last)
    tiles = (last - first, *tiling.counts[1:])
    apart = site.op("Reshape", sums, site.integers(-1, tiling.products, prod(tiles), tiling.inputs))
    products = site.op("MatMul", apart, matrices.weights)
    sizes = [method.products for method in tiling.methods]
    done = _along_axes(site, products, matrices.after, sizes, prod(tiles) * tiling.channels)
    within = [outputs // size for outputs, size in zip(tiling.outputs, pool, strict=True)]
    done = _pooled(site, done, within, pool, prod(tiles) * tiling.channels)
    return _in_order(site, done, within, tiles, tiling.channels)


def _before(
    site: GraphRewriter, x: ChannelsLastInput, tiling: Tiling, matrices: _Matrices, first: int, last: int
) -> ir.Value:
    """Sums ``(N * products along depth * products along rows, products along columns, tiles * C)``."""
    low, high, matrix = tiling.depth(first, last)
    planes = site.op("MatMul", site.constant(matrix, "before"), x.planes(site, low, high))
    flat = site.op("Reshape", planes, site.integers(-1, (last - first) * x.height * x.width, tiling.inputs))
    apart = site.op("Gather", flat, matrices.tiles[last - first], axis=1)
    sizes = [method.products for method in tiling.methods[1:]]
    values = (last - first) * prod(tiling.counts[1:]) * tiling.inputs
    return _along_axes(site, apart, matrices.before, sizes, values)


def _along_axes(
    site: GraphRewriter, x: ir.Value, matrices: Sequence[ir.Value], sizes: Sequence[int], values: int
) -> ir.Value:
    """A matrix along each of the axes in front of so many values, the outermost axis first."""
    for place, (matrix, size) in enumerate(zip(matrices, sizes, strict=True)):
        apart = site.op("Reshape", x, site.integers(-1, size, prod(sizes[place + 1 :]) * values))
        x = site.op("MatMul", matrix, apart)
    return x


def _pooled(site: GraphRewriter, x: ir.Value, within: Sequence[int], pool: Sequence[int], values: int) -> ir.Value:
    """The maximum within each tile over windows along columns, rows and depth."""
    for size, pooled in zip(reversed(pool), reversed(within), strict=True):
        if size > 1:
            apart = site.op("Reshape", x, site.integers(-1, size, values))
            x = site.op("ReduceMax", apart, site.integers(1), keepdims=0)
        values *= pooled
    return x


def _in_order(site: GraphRewriter, x: ir.Value, within: Sequence[int], tiles: Sequence[int], channels: int) -> ir.Value:
    """``(N, depth, rows and columns within a tile, tiles, outputs)`` as ``(N, D', H', W', outputs)``."""
    apart = site.op("Reshape", x, site.integers(-1, *within, *tiles, channels))
    turned = site.op("Transpose", apart, perm=[0, 4, 1, 5, 2, 6, 3, 7])
    sizes = [a * b for a, b in zip(within, tiles, strict=True)]
    return site.op("Reshape", turned, site.integers(-1, *sizes, channels))


def _cut(site: GraphRewriter, x: ir.Value, tiling: Tiling, pool: Sequence[int]) -> ir.Value:
    """Only the voxels that there are."""
    made = [count * m // size for count, m, size in zip(tiling.counts, tiling.outputs, pool, strict=True)]
    kept = [out // size for out, size in zip(tiling.window.out, pool, strict=True)]
    if made == kept:
        return x
    return site.op("Slice", x, site.integers(0, 0, 0), site.integers(*kept), site.integers(1, 2, 3))


RULE = RewriteRule("3D convolution by minimal filtering along all axes", frozenset({"Conv"}), check)
