"""A scan: its header, stored values, their rescale to HU, their geometry, and how its axes are turned."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import affines
from nibabel.orientations import aff2axcodes, axcodes2ornt, ornt_transform
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.scan.gzip_reader import Encoding
from ct3d_edge.scan.qc_flag import QCFlag


class Scan(ABC):
    """A scan in memory or in a file: its geometry, rescale, flags and planes."""

    slope: float
    intercept: float
    affine: NDArray[np.float64] | None
    flags: tuple[QCFlag, ...]
    reading_ms: float = 0.0
    """Wall time of reading so far, in milliseconds."""
    reading_flags: tuple[QCFlag, ...] = ()
    """Quality flags that only reading all planes shows."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(i, j, k)``."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype[Any]:
        """How voxels are stored, byte order included."""

    @abstractmethod
    def planes(self, needed: Iterable[int]) -> Iterator[NDArray[Any]]:
        """Yield planes of constant ``k``, each ``(j, i)``, for increasing ``k``; one may overwrite the one before."""

    @cached_property
    def spacing(self) -> tuple[float, float, float] | None:
        """Distance of neighbouring voxels along ``(i, j, k)`` in mm."""
        if self.affine is None:
            return None
        i, j, k = (float(size) for size in affines.voxel_sizes(self.affine))
        return i, j, k

    @cached_property
    def axis_code(self) -> str | None:
        """Direction in which each array axis grows, e.g. ``"LAS"``; the nearest one if the scan is oblique."""
        return None if self.affine is None else "".join(aff2axcodes(self.affine))

    @cached_property
    def obliquity(self) -> float:
        """Largest angle between an array axis and its nearest body axis, in degrees."""
        return 0.0 if self.affine is None else float(np.rad2deg(affines.obliquity(self.affine).max()))


@dataclass(frozen=True, eq=False)
class Volume(Scan):
    """A scan in memory as stored; not rescaled, reoriented or copied.

    Parameters
    ----------
    stored
        ``(i, j, k)``, any integer or real dtype and byte order, in the file's axis order. Files store ``i``
        fastest, so this is usually a Fortran-ordered view of the bytes read. Axes of length one behind the third are
        dropped, as those of files are.
    slope, intercept
        ``HU = stored * slope + intercept``.
    affine
        ``(4, 4)`` float64, voxel indices to RAS+ millimetres, or None if the file has none.
    flags
        Quality flags of reading.
    """

    stored: NDArray[Any]
    slope: float = 1.0
    intercept: float = 0.0
    affine: NDArray[np.float64] | None = None
    flags: tuple[QCFlag, ...] = ()

    def __post_init__(self) -> None:
        stored = self.stored
        while stored.ndim > 3 and stored.shape[-1] == 1:
            stored = stored[..., 0]
        object.__setattr__(self, "stored", stored)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(i, j, k)``."""
        i, j, k = self.stored.shape
        return i, j, k

    @property
    def dtype(self) -> np.dtype[Any]:
        """How voxels are stored, byte order included."""
        return self.stored.dtype

    def planes(self, needed: Iterable[int]) -> Iterator[NDArray[Any]]:
        """Yield planes of constant ``k``, each ``(j, i)``, without a copy."""
        return (self.stored[:, :, index].T for index in needed)


MAX_AXIS_LENGTH = 32767
"""Voxels along an axis; the limit of NIfTI-1. Larger planes would take too long to process."""


@dataclass(frozen=True, eq=False)
class VolumeHeader:
    """The validated header of a volume file.

    Parameters
    ----------
    shape, dtype
        ``(i, j, k)`` voxels, and how each is stored, byte order included.
    voxel_path, start, encoding
        File and byte at which the stream of voxels begins, and how it is compressed.
    offset
        Byte of that stream (decompressed) at which the voxels begin.
    affine
        ``(4, 4)`` float64, voxel indices to RAS+ millimetres, or None if the file has none.
    flags
        Quality flags of the header.
    slope, intercept
        ``HU = stored * slope + intercept``.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    voxel_path: Path
    offset: int
    affine: NDArray[np.float64] | None
    flags: tuple[QCFlag, ...]
    slope: float = 1.0
    intercept: float = 0.0
    start: int = 0
    encoding: Encoding = "auto"

    @property
    def voxel_bytes(self) -> int:
        """Size of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


def require_volume_shape(sizes: Sequence[int], name: str) -> tuple[int, int, int]:
    """``(i, j, k)`` of the sizes in a header; further axes must have length one.

    Raises
    ------
    UnreadableScanError
        ``bad_header`` for sizes that no volume has.
    RefusedScanError
        ``two_dimensional``, ``multiple_volumes``, ``single_slice``.
    """
    if not 1 <= len(sizes) <= 7 or min(sizes) < 1 or max(sizes[:3]) > MAX_AXIS_LENGTH:
        raise UnreadableScanError("bad_header", f"{name} has impossible dimensions {list(sizes)}.")
    if len(sizes) < 3:
        raise RefusedScanError(
            "two_dimensional", f"{name} is a single image of {_format_shape(sizes)} pixels, not a volume."
        )
    if math.prod(sizes[3:]) > 1:
        raise RefusedScanError(
            "multiple_volumes",
            f"{name} contains {math.prod(sizes[3:])} volumes. Split it into one file each.",
        )
    if min(sizes[:3]) < 2:
        raise RefusedScanError(
            "single_slice", f"{name} has only one slice ({_format_shape(sizes[:3])} voxels), not a volume."
        )
    i, j, k = sizes[:3]
    return i, j, k


def _format_shape(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


@dataclass(frozen=True)
class AxisMapping:
    """Which array axis of a scan becomes which network axis, and which of them are reversed.

    ``axes[n]`` is the scan axis along network axis ``n``; ``flips[n]`` whether it runs backwards.
    """

    axes: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def rotated(self, quarters: int) -> "AxisMapping":
        """After ``numpy.rot90(volume, quarters, axes=(0, 1))``: ``out[i, j] = volume[j, n - 1 - i]`` for one."""
        mapping = self
        for _ in range(quarters % 4):
            (a, b, c), (fa, fb, fc) = mapping.axes, mapping.flips
            mapping = AxisMapping((b, a, c), (not fb, fa, fc))
        return mapping


def reorient(axis_code: str, target: str) -> AxisMapping:
    """The mapping that turns an array of one axis code into another."""
    transform = ornt_transform(axcodes2ornt(axis_code), axcodes2ornt(target))
    by_target = sorted((int(to), source, flip < 0) for source, (to, flip) in enumerate(transform))
    (_, a, fa), (_, b, fb), (_, c, fc) = by_target
    return AxisMapping((a, b, c), (bool(fa), bool(fb), bool(fc)))
