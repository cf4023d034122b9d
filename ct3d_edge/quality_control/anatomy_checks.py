"""Check the orientation of a chest: lungs left and right, spine at the back, trachea at the top, table behind.

All checks measure the network's input with NumPy and report only a clear contradiction; a part of a chest or one lung
gives no result but for the table's. Left and right cannot be distinguished, as a chest is nearly symmetric.
Error rates: docs/inputs.md.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

from ct3d_edge.contract import Contract

Volume = NDArray[np.float32]
Mask = NDArray[np.bool_]

AXES = ("left-right", "front-back", "head-foot")
"""Axes of a volume with the orientation LAS."""

HU_WINDOW = (-1000.0, 200.0)
"""HU that a contract's window must include to distinguish lung, body and bone."""

MAX_VOXELS_PER_AXIS = 64
"""Pixels per side of the slices that are checked; larger slices are subsampled."""

MIN_SLICES = 32
"""Network inputs with fewer slices have no lung left after erosion."""

LUNG_HU = (-980.0, -500.0)
BODY_ABOVE, BONE_ABOVE, AIR_BELOW = -300.0, 150.0, -900.0

MIN_LUNG_FRACTION = 0.015
"""Fraction of the volume; phantoms and whole chests have at least 0.018."""

PARTED, DEEPER = 0.88, 0.2
"""Depth of the valley between two lungs, and by how much it is deeper than along other axes. Measured on whole chests:
0.91 at least along left-right, 0.70 at most elsewhere."""

SPINE_RUN, LONGER = 0.3, 1.4
"""Fraction of the volume's length that is bone in one line, and its ratio to that along another axis. Measured on
whole chests: 0.33 at least along head-foot, and 1.6 times that along front-back."""

SPINE_BEHIND, SPINE_BEFORE = 0.25, 0.75
"""Position of the spine, 0 at the back of the lungs and 1 at their front; measured -0.5 to 0.0."""

MIN_WHOLE_LUNG = 0.1
"""Largest lung area in the first and last slice, relative to the largest cross-section; more in a part of a chest."""

TRACHEA_RATIO, TRACHEA_LEAST = 4.0, 1.5e-4
"""Midline air in the lower and upper fifths of the lungs: ratio, and part of a slice, that make a difference. Measured:
6.9 at least between the two of chests that are upside down, 2.9 of one that is not and has much gas in its gut."""


TABLE_ABOVE, TABLE_RUN, TABLE_DISTANCE = -850.0, 0.8, 3
"""HU of a table's foam, the part of all slices in which it lies in one place, and its distance from the body in pixels:
clothes and arms do not run along a scan so."""

MIN_TABLE = 5
"""Pixels of the coarse slice that are a table; ``python -m bench.orientation`` prints how many there are."""


@dataclass(frozen=True, eq=False)
class BodyAxesView:
    """A network input, turned to the axes of the body.

    Parameters
    ----------
    las
        ``(W, H, D)`` float32 in [0, 1], orientation LAS.
    coarse
        The same in HU, with `MAX_VOXELS_PER_AXIS` to twice as many pixels per side of a slice.
    window
        HU that 0 and 1 stand for.
    """

    las: Volume
    coarse: Volume
    window: tuple[float, float]


def view_body_axes(prepared: Volume, contract: Contract) -> BodyAxesView | None:
    """The view that the checks below need; None if the input has too few voxels, or a window without lung or bone.

    Parameters
    ----------
    prepared
        A network input, ``contract.shape`` float32 in [0, 1].
    """
    low, high = contract.hu_window
    if contract.orientation == "stored" or low > HU_WINDOW[0] or high < HU_WINDOW[1]:
        return None
    las = _as_las(prepared, contract)
    if min(las.shape[:2]) < MAX_VOXELS_PER_AXIS or las.shape[2] < MIN_SLICES:
        return None
    every = [slice(None, None, size // MAX_VOXELS_PER_AXIS) for size in las.shape[:2]]
    # A contiguous copy: the checks are ten times slower on a transposed view.
    coarse = np.ascontiguousarray(las[tuple(every)]) * (high - low) + low
    return BodyAxesView(las, coarse, contract.hu_window)


def orientation_contradiction(view: BodyAxesView) -> str | None:
    """A sentence on the anatomy that contradicts the orientation; None if there is no contradiction."""
    lung = _lung_mask(view.coarse)
    if lung.mean() < MIN_LUNG_FRACTION:
        return None
    low, high = view.window
    return (
        _check_lung_axes(lung)
        or _check_spine(view.coarse, lung)
        or _check_trachea(view.las, lung, (AIR_BELOW - low) / (high - low))
    )


def has_table_in_front(view: BodyAxesView) -> bool:
    """Whether the table lies before the patient only: a prone patient, or front and back are exchanged."""
    behind, before = count_table_pixels(view)
    return before >= MIN_TABLE and behind == 0


def count_table_pixels(view: BodyAxesView) -> tuple[int, int]:
    """Pixels of a coarse slice in which the table lies: behind the body, and before it."""
    # Eroded twice, the table's shell is gone and its foam never was body.
    body = np.asarray(_erode(_erode(view.coarse > BODY_ABOVE)).any(axis=2))
    depth = body.sum(axis=0)
    if not depth.any():
        return 0, 0
    table = ((view.coarse > TABLE_ABOVE).mean(axis=2) > TABLE_RUN) & ~_dilate(body, TABLE_DISTANCE)
    middle = int(np.average(np.arange(len(depth)), weights=depth))
    along = table.sum(axis=0)
    return int(along[:middle].sum()), int(along[middle + 1 :].sum())


def _as_las(volume: Volume, contract: Contract) -> Volume:
    unrotated = np.rot90(volume, -contract.quarter_turns, axes=(0, 1))
    transform = orientations.ornt_transform(
        orientations.axcodes2ornt(contract.orientation), orientations.axcodes2ornt("LAS")
    )
    return np.asarray(orientations.apply_orientation(unrotated, transform))


def _lung_mask(hu: Volume) -> Mask:
    """Voxels of lung tissue with body on both sides along at least two axes, which excludes the foam of a table."""
    body = _erode(hu > BODY_ABOVE)
    x, y, z = (_enclosed_along(body, axis) for axis in range(3))
    lung: Mask = _erode((hu > LUNG_HU[0]) & (hu < LUNG_HU[1])) & ((x & y) | (x & z) | (y & z))
    return lung


def _erode(mask: Mask) -> Mask:
    """Voxels whose six neighbours are in the mask, too; this removes skin, table shells and vessels."""
    eroded = mask.copy()
    for axis in range(3):
        inner, outer = np.moveaxis(eroded, axis, 0), np.moveaxis(mask, axis, 0)
        inner[1:] &= outer[:-1]
        inner[:-1] &= outer[1:]
    return eroded


def _dilate(mask: Mask, pixels: int) -> Mask:
    """Pixels of ``(W, H)`` that are at most this many steps along the axes away from the mask."""
    for _ in range(pixels):
        mask = ~_erode(~mask[..., None])[..., 0]
    return mask


def _enclosed_along(mask: Mask, axis: int) -> Mask:
    """Voxels between two voxels of the mask along an axis."""
    count = mask.shape[axis]
    first = mask.argmax(axis=axis, keepdims=True)
    last = count - 1 - np.flip(mask, axis).argmax(axis=axis, keepdims=True)
    positions = np.arange(count, dtype=np.int16).reshape([-1 if n == axis else 1 for n in range(3)])
    # In a line without a voxel of the mask, first and last are its ends; `any` excludes it.
    between: Mask = (
        (positions >= first.astype(np.int16)) & (positions <= last.astype(np.int16)) & mask.any(axis, keepdims=True)
    )
    return between


def _profile(mask: Mask, axis: int) -> NDArray[np.float64]:
    counts: NDArray[np.float64] = mask.sum(axis=tuple({0, 1, 2} - {axis}), dtype=np.float64)
    return counts


def _bounds(profile: NDArray[np.float64], low: float, high: float) -> tuple[int, int]:
    """Indices at which the cumulative profile reaches these fractions."""
    reached = np.cumsum(profile) / profile.sum()
    return int(np.searchsorted(reached, low)), int(np.searchsorted(reached, high))


def _find_valley(profile: NDArray[np.float64]) -> tuple[float, int]:
    """Depth, 0 to 1 of the lower peak, and index of the minimum in the middle half of a profile."""
    first, last = _bounds(profile, 0.02, 0.98)
    inside = np.convolve(profile, np.ones(3) / 3, "same")[first : last + 1]
    quarter = len(inside) // 4
    if quarter < 1:
        return 0.0, (first + last) // 2
    lowest = int(inside[quarter:-quarter].argmin()) + quarter
    peaks = min(inside[:lowest].max(initial=0), inside[lowest + 1 :].max(initial=0))
    return (1 - inside[lowest] / peaks if peaks else 0.0), first + lowest


def _check_lung_axes(lung: Mask) -> str | None:
    """A message if the lungs are separated along another axis than left-right."""
    depths = [_find_valley(_profile(lung, axis))[0] for axis in range(3)]
    parted = int(np.argmax(depths))
    if parted == 0 or depths[parted] < PARTED or depths[0] > depths[parted] - DEEPER:
        return None
    return f"The two lungs are separated along the axis that the file calls {AXES[parted]}."


def _check_spine(hu: Volume, lung: Mask) -> str | None:
    """A message if the spine is not behind the lungs or does not run along head-foot."""
    if _find_valley(_profile(lung, 0))[0] < PARTED:
        return None
    run, depth_position = _measure_bone_run(hu, lung, 2, 1)
    if run >= SPINE_RUN and depth_position > SPINE_BEFORE:
        return "The spine is in front of the lungs: front and back are exchanged."
    across, there = _measure_bone_run(hu, lung, 1, 2)
    behind = min(there, 1 - there)
    if across >= SPINE_RUN and across > LONGER * run and behind < SPINE_BEHIND:
        return "The spine runs along the axis that the file calls front-back."
    return None


def _measure_bone_run(hu: Volume, lung: Mask, along: int, across: int) -> tuple[float, float]:
    """The fraction of an axis covered by the longest lines of bone between the lungs, and their position across it."""
    left, right = _bounds(_profile(lung, 0), 0.25, 0.75)
    bone = (hu[left : right + 1] > BONE_ABOVE).mean(axis=along)
    run = float(np.quantile(bone, 0.98))
    front, back = _bounds(_profile(lung, across), 0.1, 0.9)
    positions = np.argwhere(bone >= run)[:, 1]
    return run, float((positions.mean() - front) / max(back - front, 1))


def _check_trachea(las: Volume, lung: Mask, air_below: float) -> str | None:
    """A message if the air between the lungs (trachea) is in their lower part, where the heart should be."""
    depth, middle = _find_valley(_profile(lung, 0))
    along = _profile(lung, 2)
    if depth < PARTED or max(along[0], along[-1]) > MIN_WHOLE_LUNG * along.max():
        return None
    left, right = _bounds(_profile(lung, 0), 0.02, 0.98)
    back, front = _bounds(_profile(lung, 1), 0.02, 0.98)
    bottom, top = _bounds(along, 0.005, 0.995)
    wide = max((right - left) // 12, 1)
    fine = [size // small for size, small in zip(las.shape, lung.shape, strict=True)]
    x = slice(fine[0] * max(middle - wide, 0), fine[0] * (middle + wide + 1))
    y = slice(fine[1] * back, fine[1] * (front + 1))
    air = (las[x, y] < air_below).sum(axis=(0, 1)) / (las.shape[0] * las.shape[1])
    edges = np.linspace(bottom, top + 1, 6).astype(int)
    fifths = [float(air[first:last].mean()) for first, last in pairwise(edges)]
    # Gas in the gut may fill one of the two lowest fifths, a trachea fills both.
    if min(fifths[:2]) <= TRACHEA_RATIO * fifths[3] + TRACHEA_LEAST:
        return None
    return "The trachea is in the lower part of the lungs: head and foot are exchanged."
