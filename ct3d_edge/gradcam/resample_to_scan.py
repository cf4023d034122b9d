"""From the cells of a network's features to the voxels of a scan, and a map as a NIfTI file."""

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec
import nibabel as nib
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.preprocessing import map_axes
from ct3d_edge.scan.volume import Scan
from ct3d_edge.system.atomic_write import atomic_file

FEATURE_GRID_KEY = "cells"
"""Key of a model file's provenance: the cells of its features."""

Offset = Annotated[float, Meta(ge=-1e6, le=1e6)]
Stride = Annotated[float, Meta(gt=0, le=1e6)]


@dataclass(frozen=True)
class FeatureGrid:
    """Centres of the cells' receptive fields: cell ``i`` along an axis at voxel ``offset + stride * i``.

    Parameters
    ----------
    offset, stride
        One number for each axis of the network's input, in its voxels. Convolutions without padding keep the first
        cell away from the border: four blocks of the tutorial's put it at voxel 22.5, the next at 38.5.
    """

    offset: tuple[Offset, Offset, Offset]
    stride: tuple[Stride, Stride, Stride]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the provenance."""
        return {name: list(value) for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Parse what ``to_dict`` wrote.

        Raises
        ------
        ValueError
            If it is anything else.
        """
        return msgspec.convert(data, cls)


Map = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScanMap:
    """A map in a scan's own space, computed plane by plane: at its full size it never exists.

    Parameters
    ----------
    cells
        ``(a, b, c)`` float32, along the scan's axes ``(i, j, k)``.
    weights
        For each axis ``(voxels, cells)``: what each voxel takes of each cell.
    affine
        Of the scan, ``(4, 4)``, or None if it has none.
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
        return map(self.plane, range(self.shape[2]))

    def plane(self, index: int) -> Map:
        """The plane ``k = index``, ``(j, i)``."""
        along_i, along_j, along_k = self.weights
        return np.asarray(along_j @ (self.cells @ along_k[index]).T @ along_i.T, np.float32)


def resample_to_network(cells: Map, geometry: FeatureGrid, shape: Sequence[int]) -> Map:
    """A map of cells ``(a, b, c)`` on the network's input, ``shape`` float32."""
    positions = [np.arange(size, dtype=np.float64) for size in shape]
    first, second, third = (
        _interpolation_weights(at, cells.shape[axis], geometry, axis) for axis, at in enumerate(positions)
    )
    return np.asarray(np.einsum("abc,ia,jb,kc->ijk", cells, first, second, third, optimize=True), np.float32)


def resample_to_scan(cells: Map, geometry: FeatureGrid, scan: Scan, contract: Contract) -> ScanMap:
    """A map of cells in the space of a scan: the way back from what `preprocess` does to it.

    ``preprocess`` takes sample ``n`` of an axis from voxel ``n * (voxels - 1) / (samples - 1)``, end points aligned, of
    the scan's axis that becomes it, which may run backwards; here each voxel gets its position among the samples.
    """
    mapping = map_axes(scan, contract)
    weights: dict[int, Map] = {}
    for axis, (along, flip) in enumerate(zip(mapping.axes, mapping.flips, strict=True)):
        voxels, samples = scan.shape[along], contract.shape[axis]
        index = np.arange(voxels, dtype=np.float64)
        positions = (voxels - 1 - index if flip else index) * ((samples - 1) / max(voxels - 1, 1))
        weights[along] = _interpolation_weights(positions, cells.shape[axis], geometry, axis)
    turned = cells.transpose([mapping.axes.index(axis) for axis in range(3)])
    return ScanMap(np.ascontiguousarray(turned), (weights[0], weights[1], weights[2]), scan.affine)


def _interpolation_weights(positions: NDArray[np.float64], cells: int, geometry: FeatureGrid, axis: int) -> Map:
    """``(positions, cells)``: the share of each cell at voxels of the network's input."""
    cell_positions = np.clip((positions - geometry.offset[axis]) / geometry.stride[axis], 0, cells - 1)
    return np.asarray(np.maximum(0, 1 - np.abs(cell_positions[:, None] - np.arange(cells))), np.float32)


QUANTIZATION_LEVELS = 255
GZIP_LEVEL = 1
"""A smooth map is small at any level; higher ones take longer."""


MAX_NOTE_LENGTH = 79
"""Bytes that a NIfTI header keeps for a description."""


def save_map(overlay: ScanMap, path: Path, note: str = "") -> None:
    """Write a map as .nii.gz, uint8 with a slope that gives its values back; complete or not at all.

    ``note`` is stored in the header as its description, shortened to fit.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    slope = overlay.peak / QUANTIZATION_LEVELS or 1.0
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(overlay.shape)
    header.set_slope_inter(slope, 0)
    header.set_xyzt_units("mm")
    if overlay.affine is not None:
        header.set_sform(overlay.affine, code="scanner")
        header.set_zooms(np.sqrt((overlay.affine[:3, :3] ** 2).sum(axis=0)))
    header["descrip"] = _truncate_note(note)
    header["magic"], header["vox_offset"] = b"n+1", header.sizeof_hdr + 4
    with (
        atomic_file(path) as stream,
        # Neither a time stamp nor a name: every run's bytes would differ.
        gzip.GzipFile("", "wb", GZIP_LEVEL, stream, mtime=0) as packed,
    ):
        packed.write(header.binaryblock + bytes(4))
        for plane in overlay.planes():
            packed.write(np.rint(plane / slope).astype(np.uint8).tobytes())


def has_matching_note(path: Path, note: str) -> bool:
    """Whether there is a map that was written with this note."""
    try:
        return bytes(nib.load(path).header["descrip"].item()) == _truncate_note(note)
    except (OSError, nib.filebasedimages.ImageFileError):
        return False


def _truncate_note(note: str) -> bytes:
    return note.encode("ascii", "replace")[:MAX_NOTE_LENGTH]
