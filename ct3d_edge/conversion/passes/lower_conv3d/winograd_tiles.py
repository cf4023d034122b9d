"""How a 3D convolution is cut into tiles for minimal filtering along all three axes, and what that costs.

Costs are counted in multiplications of a convolution. What a step over memory is worth in them was chosen on two cores
with AVX-512 and ONNX Runtime 1.31, so that layers like those of the tutorial's network are cut where that is faster.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from math import prod

import numpy as np

from ct3d_edge.conversion.passes.graph import Array
from ct3d_edge.conversion.passes.lower_conv3d.winograd_depth import TAPS, TILE_SIZES, input_transform_matrix
from ct3d_edge.conversion.passes.lower_conv3d.winograd_matrices import WinogradMatrices, make_winograd_matrices
from ct3d_edge.conversion.passes.window import Window, WindowAxis

TRANSFORM_COST = 40
"""Multiplications that take as long as bringing one number through all the small matrices on one side."""

WEIGHT_READ_COST = 40
"""Multiplications that take as long as reading one weight."""

MAX_TILE_SIZE = 6
"""Tiles of so many outputs are taken along one axis, or where poolings of three need them: along more axes they save
little more time and round more."""

BLOCK_BYTES = 8_000_000
"""Bytes that the products of a block of tiles may take: more of them leave the cache on the way."""


@dataclass(frozen=True, eq=False)
class Tiling:
    """Tiles of ``outputs`` voxels over a convolution.

    Parameters
    ----------
    window
        Of the convolution.
    outputs
        Voxels of a tile along depth, rows and columns.
    inputs, channels
        Channels that go in and come out.
    """

    window: Window
    outputs: tuple[int, int, int]
    inputs: int
    channels: int

    @cached_property
    def axis_matrices(self) -> tuple[WinogradMatrices, ...]:
        """Minimal filtering along each axis."""
        return tuple(make_winograd_matrices(outputs, TAPS) for outputs in self.outputs)

    @property
    def counts(self) -> tuple[int, ...]:
        """Tiles along each axis."""
        return tuple(-(-axis.out // outputs) for axis, outputs in zip(self.window.axes, self.outputs, strict=True))

    @property
    def products(self) -> int:
        """Products of a tile, one matrix of weights each."""
        return prod(outputs + TAPS - 1 for outputs in self.outputs)

    @property
    def weight_growth(self) -> float:
        """So many times as many weights."""
        return self.products / TAPS**3

    @property
    def cost(self) -> int:
        """In multiplications."""
        weights = self.inputs * self.channels
        each = weights + TRANSFORM_COST * (self.inputs + self.channels)
        return self.products * (prod(self.counts) * each + WEIGHT_READ_COST * len(list(self.blocks())) * weights)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """First and last (exclusive) tile along depth of each block."""
        tile = 4 * self.products * prod(self.counts[1:]) * max(self.inputs, self.channels)
        thickest = max(1, BLOCK_BYTES // tile)
        pieces = -(-self.counts[0] // thickest)
        edges = [piece * self.counts[0] // pieces for piece in range(pieces + 1)]
        return pairwise(edges)

    def depth_transform(self, first: int, last: int) -> tuple[int, int, Array]:
        """The planes from ``low`` to ``high`` that tiles read, and their matrix ``(products * tiles, high - low)``."""
        axis, method = self.window.axes[0], self.axis_matrices[0]
        low = min(max(0, first * method.outputs - axis.begin), axis.size - 1)
        high = max(low + 1, min(axis.size, (last - 1) * method.outputs + method.products - axis.begin))
        matrix = input_transform_matrix(axis, method, self.counts[0]).reshape(
            self.counts[0], method.products, axis.size
        )
        return low, high, matrix[first:last, :, low:high].transpose(1, 0, 2).reshape(-1, high - low)

    def tile_indices(self, planes: int) -> Array:
        """Voxels of so many padded planes in the order product row, product column, plane, tile row, tile column.

        A tile that is cut off at the end reads the last voxel where there are none; what it makes of it is dropped.
        """
        rows, columns = (self._axis_indices(axis) for axis in (1, 2))
        height, width = (_padded_size(axis) for axis in self.window.axes[1:])
        plane = np.arange(planes)[None, None, :, None, None] * height * width
        return np.asarray(plane + rows[:, None, None, :, None] * width + columns[None, :, None, None, :]).reshape(-1)

    def _axis_indices(self, axis: int) -> Array:
        """``(products, tiles)``."""
        method = self.axis_matrices[axis]
        first = np.arange(self.counts[axis], dtype=np.int64) * method.outputs
        last = _padded_size(self.window.axes[axis]) - 1
        return np.asarray(np.minimum(first + np.arange(method.products)[:, None], last))


def _padded_size(axis: WindowAxis) -> int:
    return axis.size + axis.begin + axis.end


def cheapest_tiling(window: Window, pool: tuple[int, int, int], inputs: int, channels: int) -> Tiling | None:
    """The tiling that costs least, of those into which a pooling's windows fit; None if they fit into none."""
    choices = [[tile for tile in TILE_SIZES if tile % size == 0] for size in pool]
    fine = [outputs for outputs in product(*choices) if outputs.count(MAX_TILE_SIZE) <= max(1, pool.count(3))]
    tilings = [Tiling(window, outputs, inputs, channels) for outputs in fine]  # type: ignore[arg-type]  # three axes
    return min(tilings, key=lambda tiling: tiling.cost, default=None)
