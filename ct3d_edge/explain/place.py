"""From cells to voxels: linear interpolation between the centres of cells, constant beyond the outermost ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.explain.cells import Cells
from ct3d_edge.preprocess import placement
from ct3d_edge.scan import Scan

Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class MapOfScan:
    """A map in a scan's own space, computed plane by plane: at its full size it never exists.

    Parameters
    ----------
    cells
        ``(a, b, c)`` float32, along the scan's axes ``(i, j, k)``.
    weights
        For each axis ``(voxels, cells)``: what each voxel takes of each cell.
    affine
        Of the scan, ``(4, 4)``, or None where it does not say.
    """

    cells: Map
    weights: tuple[Map, Map, Map]
    affine: NDArray[np.float64] | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(i, j, k)``: the scan's."""
        i, j, k = (len(weights) for weights in self.weights)
        return i, j, k

    @property
    def peak(self) -> float:
        """Largest value of any voxel, or a little more."""
        return float(self.cells.max())

    def planes(self) -> Iterator[Map]:
        """Yield planes of constant ``k``, each ``(j, i)``, from the first to the last."""
        along_i, along_j, along_k = self.weights
        for weights in along_k:
            yield along_j @ (self.cells @ weights).T @ along_i.T


def on_network_grid(cells: Map, geometry: Cells, shape: Sequence[int]) -> Map:
    """A map of cells ``(a, b, c)`` on the network's input, ``shape`` float32."""
    positions = [np.arange(size, dtype=np.float64) for size in shape]
    first, second, third = (_weights(at, cells.shape[axis], geometry, axis) for axis, at in enumerate(positions))
    return np.asarray(np.einsum("abc,ia,jb,kc->ijk", cells, first, second, third, optimize=True), np.float32)


def on_scan_grid(cells: Map, geometry: Cells, scan: Scan, contract: Contract) -> MapOfScan:
    """A map of cells in the space of a scan: the way back from what `preprocess` does to it.

    ``preprocess`` takes sample ``n`` of an axis from voxel ``n * (voxels - 1) / (samples - 1)``, end points aligned, of
    the scan's axis that lies there, which may run backwards; here voxels are given their places among samples.
    """
    placed = placement(scan, contract)
    weights: dict[int, Map] = {}
    for axis, (along, flip) in enumerate(zip(placed.axes, placed.flips, strict=True)):
        voxels, samples = scan.shape[along], contract.shape[axis]
        index = np.arange(voxels, dtype=np.float64)
        positions = (voxels - 1 - index if flip else index) * ((samples - 1) / max(voxels - 1, 1))
        weights[along] = _weights(positions, cells.shape[axis], geometry, axis)
    turned = cells.transpose([placed.axes.index(axis) for axis in range(3)])
    return MapOfScan(np.ascontiguousarray(turned), (weights[0], weights[1], weights[2]), scan.affine)


def _weights(positions: NDArray[np.float64], cells: int, geometry: Cells, axis: int) -> Map:
    """``(positions, cells)``: the share of each cell at voxels of the network's input."""
    places = np.clip((positions - geometry.offset[axis]) / geometry.stride[axis], 0, cells - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(places[:, None] - np.arange(cells))), np.float32)
