"""From a scan to the network's input, computed by NumPy: the one function that training and inference share.

The published tutorial clips to the HU window, scales to [0, 1], turns by a quarter and zooms with SciPy, all at
the scan's full size. Linear interpolation with aligned end points is three independent two-tap interpolations,
and shrinking touches only a part of the voxels: here they are gathered first, plane by plane so that the working
set stays in the cache, and everything else is done to what was gathered. The result is the tutorial's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import RefusedScanError
from ct3d_edge.scan.geometry_checks import DEFAULT_ORIENTATION, find_fill_value, mask_outside_fov, orientation_flags
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import AxisMapping, Scan, reorient

SAMPLING_AXIS_ORDER = (1, 0, 2)
"""Scan axes in the order in which sampling leaves them, which is the network's for a scan that lies as most do."""

MAX_NON_FINITE_FRACTION = 0.5
"""With more of the sampled voxels NaN or infinite than this, nothing is left to predict. A circular field of view
padded with NaN takes 1 - pi/4 = 21 %."""

MAX_FILL_FRACTION = 0.95
"""Of a slice that holds one value, it shows nothing, and other slices must tell whether that value lies outside."""

MAX_MATMUL_SIZE = 1 << 17
"""Multiplications in one matrix product. OpenBLAS gives more than 2**18 (interface/gemm.c) to threads that then wait
in a loop: a product of 1 ms took 0.1 s of another core, which scans beside this one need."""


SAMPLES_PER_AXIS = 32
"""Rows and columns of a plane that are kept to compare it with others."""


@dataclass(frozen=True, eq=False)
class SourcePlanes:
    """The planes of a scan that were read, coarsely sampled: what a network input no longer shows one by one.

    Parameters
    ----------
    indices
        ``(N,)``, increasing: where they lie along the scan's last array axis.
    samples
        ``(N, M)`` float32: pixels of each, in the HU window scaled to [0, 1].
    """

    indices: NDArray[np.intp]
    samples: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ModelInput:
    """A network input.

    Parameters
    ----------
    volume
        ``contract.shape`` float32 in [0, 1], C-contiguous.
    flags
        What the scan's reading and this preparation noticed.
    hu_range
        Lowest and highest HU among the sampled voxels, before they were clipped; NaN and infinities count
        as what they are taken for.
    planes
        The planes that it was made of.
    """

    volume: NDArray[np.float32]
    flags: tuple[QCFlag, ...]
    hu_range: tuple[float, float]
    planes: SourcePlanes


def preprocess(volume: Scan, contract: Contract) -> ModelInput:
    """Turn a scan, in memory or streamed from its file, into the input that a network with this contract expects.

    Equals the tutorial (clip, scale, ``scipy.ndimage.rotate`` by 90 degrees, ``scipy.ndimage.zoom`` of order 1)
    within 1e-6 where the slices are square. Where they are not, the tutorial's rotation crops one side and pads the
    other with zeros; here the whole slice is turned and resized, so nothing of the patient is lost.

    NaN becomes the lower end of the HU window (air), infinities their end of it, with the quality flag ``non_finite``.

    Raises
    ------
    RefusedScanError
        ``non_finite`` if more than half of the sampled voxels are NaN or infinite.
    UnreadableScanError
        If a scan that is streamed turns out to be truncated or damaged.
    """
    mapping = map_axes(volume, contract)
    flags = () if contract.orientation == "stored" else orientation_flags(volume)
    sampled, seen, planes = _resample(volume, _make_scan_taps(volume.shape, contract, mapping), contract.hu_window)
    flags += (*volume.reading_flags, *_non_finite_flags(seen.non_finite), *_fill_flags(seen.filled))
    turned = sampled.transpose([SAMPLING_AXIS_ORDER.index(axis) for axis in mapping.axes])
    return ModelInput(np.ascontiguousarray(turned), (*volume.flags, *flags), (seen.low, seen.high), planes)


def map_axes(scan: Scan, contract: Contract) -> AxisMapping:
    """How a scan's array axes become those of the network's input."""
    if contract.orientation == "stored":
        return AxisMapping().rotated(contract.quarter_turns)
    return reorient(scan.axis_code or DEFAULT_ORIENTATION, contract.orientation).rotated(contract.quarter_turns)


@dataclass(frozen=True, eq=False)
class _InterpolationTaps:
    """For each of ``n`` samples along an axis: ``value = scan[low] * (1 - weight) + scan[high] * weight``."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    weight: NDArray[np.float32]

    @property
    def source_indices(self) -> NDArray[np.intp]:
        return np.concatenate([self.low, self.high])


def _make_taps(size_in: int, size_out: int, flip: bool) -> _InterpolationTaps:
    position = np.arange(size_out) * ((size_in - 1) / max(size_out - 1, 1))
    if flip:  # before taking taps: a single sample is the first along the network's axis, not the scan's
        position = size_in - 1 - position
    low = np.minimum(position.astype(np.intp), size_in - 1)
    high = np.minimum(low + 1, size_in - 1)
    return _InterpolationTaps(low, high, (position - low).astype(np.float32))


def _make_scan_taps(shape: tuple[int, int, int], contract: Contract, mapping: AxisMapping) -> list[_InterpolationTaps]:
    taps: dict[int, _InterpolationTaps] = {}
    for size_out, axis, flip in zip(contract.shape, mapping.axes, mapping.flips, strict=True):
        taps[axis] = _make_taps(shape[axis], size_out, flip)
    return [taps[axis] for axis in range(3)]


@dataclass
class _SourcePlane:
    """What sampled voxels hold: the fractions not finite and filled in, lowest and highest HU of the others."""

    non_finite: float = 0
    filled: float = 0
    low: float = np.inf
    high: float = -np.inf


def _resample(
    volume: Scan, taps: list[_InterpolationTaps], window: tuple[float, float]
) -> tuple[NDArray[np.float32], _SourcePlane, SourcePlanes]:
    """Samples in [0, 1] with axes ``(j, i, k)``, what the voxels behind them hold, and the planes."""
    columns, rows, planes = taps
    needed, where = np.unique(planes.source_indices, return_inverse=True)
    resized, seen = _resize_planes(volume, needed, rows, columns, window)
    # Interpolating between planes as a product with a matrix of two numbers a column costs more arithmetic than
    # needed, but it leaves the result in the order of the network's axes; turning it afterwards costs three times as
    # much as the product.
    weights = np.zeros((len(needed), len(planes.low)), np.float32)
    samples = np.arange(len(planes.low))
    weights[where[: len(samples)], samples] = 1 - planes.weight
    weights[where[len(samples) :], samples] += planes.weight
    out = _matmul_single_thread(resized.reshape(len(needed), -1).T, weights)
    every = tuple(slice(None, None, -(-size // SAMPLES_PER_AXIS)) for size in resized.shape[1:])
    kept = SourcePlanes(needed, resized[:, *every].reshape(len(needed), -1))
    return np.clip(out, 0, 1, out=out).reshape(*resized.shape[1:], len(samples)), seen, kept


def _matmul_single_thread(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """``left @ right`` by the calling thread alone."""
    out = np.empty((len(left), right.shape[1]), np.float32)
    rows = max(1, MAX_MATMUL_SIZE // right.size)
    for start in range(0, len(left), rows):
        np.matmul(left[start : start + rows], right, out=out[start : start + rows])
    return out


def _resize_planes(
    volume: Scan,
    needed: NDArray[np.intp],
    rows: _InterpolationTaps,
    columns: _InterpolationTaps,
    window: tuple[float, float],
) -> tuple[NDArray[np.float32], _SourcePlane]:
    """Each needed plane, clipped to the window, scaled and resized: ``(planes, rows, columns)`` float32 in [0, 1]."""
    height, width = len(rows.low), len(columns.low)
    low, high = window
    # Wide integers and float64 lose HU in float32 before slope and intercept are applied; int16 does not.
    work = np.result_type(volume.dtype, np.float32)
    gathered = np.empty((2 * height, volume.shape[0]), volume.dtype.newbyteorder("="))
    hu = np.empty(gathered.shape, work)
    pairs = np.empty((height, 2 * width), work)
    row_indices, column_indices = rows.source_indices, columns.source_indices
    row_weight = np.repeat(rows.weight[:, None], hu.shape[1], axis=1)
    resized = np.empty((len(needed), height, width), np.float32)
    seen = _SourcePlane()
    blank: list[tuple[int, float]] = []
    fills: set[float] = set()
    for n, plane in enumerate(volume.planes(needed)):
        np.take(_to_native_byte_order(plane), row_indices, axis=0, out=gathered, mode="clip")
        np.copyto(hu, gathered)
        fill = find_fill_value(plane, volume.slope, volume.intercept)
        if fill is not None and (outside := mask_outside_fov(gathered, fill)).mean() > MAX_FILL_FRACTION:
            blank.append((n, fill))
        elif fill is not None:
            fills.add(fill)
            # Before slope and intercept are applied, so that it is air afterwards.
            hu[outside] = (low - volume.intercept) / volume.slope
            seen.filled += int(np.count_nonzero(outside))
        _scale_to_window(hu, volume, window, seen)
        blended = _interpolate(hu[:height], hu[height:], row_weight)
        np.take(blended, column_indices, axis=1, out=pairs, mode="clip")
        narrowed = _interpolate(pairs[:, :width], pairs[:, width:], columns.weight)
        narrowed -= low
        np.multiply(narrowed, 1 / (high - low), out=resized[n], casting="same_kind")
    ends = _beyond_ends([n for n, _ in blank], len(needed))
    for n, fill in blank:
        if fill in fills or n in ends:
            resized[n] = 0
            seen.filled += hu.size
    seen.non_finite /= len(needed) * hu.size
    seen.filled /= len(needed) * hu.size
    return resized, seen


def _beyond_ends(blank: list[int], count: int) -> set[int]:
    """Of planes that hold one value, those that follow one another from the first or the last of all planes."""
    if len(blank) == count:
        return set()
    first = {n for place, n in enumerate(blank) if n == place}
    return first | {n for place, n in enumerate(reversed(blank)) if n == count - 1 - place}


def _to_native_byte_order(plane: NDArray[Any]) -> NDArray[Any]:
    """The plane in this machine's byte order; a view where it is already."""
    return plane.astype(plane.dtype.newbyteorder("="), copy=False)


def _interpolate(low: NDArray[Any], high: NDArray[Any], weight: NDArray[np.float32]) -> NDArray[Any]:
    """Linear interpolation; overwrites both inputs, because allocating would cost more than computing."""
    high -= low
    high *= weight
    low += high
    return low


def _scale_to_window(hu: NDArray[Any], volume: Scan, window: tuple[float, float], seen: _SourcePlane) -> None:
    """Scale stored numbers to HU and clip, in place; note what they hold."""
    with np.errstate(over="ignore", invalid="ignore"):
        if volume.slope != 1:
            hu *= volume.slope
        if volume.intercept != 0:
            hu += volume.intercept
    if volume.dtype.kind == "f":
        bad = hu.size - int(np.count_nonzero(np.isfinite(hu)))
        seen.non_finite += bad
        if bad:
            np.nan_to_num(hu, copy=False, nan=window[0], posinf=window[1], neginf=window[0])
    seen.low, seen.high = min(seen.low, float(hu.min())), max(seen.high, float(hu.max()))
    np.clip(hu, *window, out=hu)


def _fill_flags(fraction: float) -> tuple[QCFlag, ...]:
    if fraction == 0:
        return ()
    detail = f"{fraction:.1%} of the sampled voxels hold one value like tissue's around the image; it was taken as air."
    return (QCFlag("fov_fill", "warn", detail, round(fraction, 4)),)


def _non_finite_flags(fraction: float) -> tuple[QCFlag, ...]:
    if fraction == 0:
        return ()
    detail = f"{fraction:.1%} of the sampled voxels are NaN or infinite"
    if fraction > MAX_NON_FINITE_FRACTION:
        raise RefusedScanError("non_finite", f"{detail}; too few are left.")
    detail += "; NaN was taken as air, infinities as the window's ends."
    return (QCFlag("non_finite", "warn", detail, round(fraction, 4)),)
