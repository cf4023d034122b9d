"""The slices of a series put in order along their common normal, and what is wrong with how they lie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScanError
from ct3d_edge.formatting import plural
from ct3d_edge.scan.dicom.consistency import (
    POSITION_TOLERANCE_MM,
    SliceOf,
    list_file_names,
    require_common_grid,
    require_identical_duplicates,
)
from ct3d_edge.scan.dicom.frames import PASS_FEATURES
from ct3d_edge.scan.dicom.interleaving import find_stray_slices
from ct3d_edge.scan.geometry_checks import tilt_flags
from ct3d_edge.scan.qc_flag import QCFlag

SPACING_TOLERANCE = 0.1
"""Farthest that a slice may lie from its place on an even grid, in slice distances, without a remark."""

MIN_GAP_STEPS = 0.5
"""From this distance on the grid has a hole, or the order is unknown."""

ALTERNATION_TOLERANCE = 0.1
"""Difference of every second distance from the others, in mean distances, from which on two passes are woven."""

ROUNDING_MM = 0.11
"""Distances that differ by less, in mm, may be equal ones between positions that were rounded to a tenth."""

MIN_ALTERNATIONS = 4
"""Distances in a row that have to repeat the last but one; of a few lost slices, fewer do."""

SIDEWAYS_LIMITS = (0.25, 1.0)
"""How far a slice may lie beside the line of the others, in pixels, without a remark and without a refusal."""

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""DICOM counts toward the patient's left and back, NIfTI toward right and front (PS3.3, C.7.6.2.1.1)."""


@dataclass(frozen=True, eq=False)
class SortedSlices:
    """Slices in order along their normal.

    Parameters
    ----------
    slices
        The first lies lowest along the normal, which is the cross product of row and column direction.
    affine
        ``(4, 4)`` float64, ``(column, row, slice)`` to RAS+ mm; slices are taken as evenly spaced.
    flags
        About duplicates, holes, uneven distances and tilt.
    """

    slices: tuple[SliceOf, ...]
    affine: NDArray[np.float64]
    flags: tuple[QCFlag, ...]


def sort_slices(slices: Sequence[SliceOf], same_pixels: Callable[[SliceOf, SliceOf], bool]) -> SortedSlices:
    """Put slices in order.

    Parameters
    ----------
    same_pixels
        Whether two slices in one place show the same.

    Raises
    ------
    RefusedScanError
        ``conflicting_instances``: see `require_identical_duplicates`; ``no_geometry``, ``inconsistent_slices``: see
        `require_common_grid`; ``single_slice``; ``multiple_volumes`` if different slices lie in one place, a slice
        of another pass lies between others, or distances alternate.
    """
    require_identical_duplicates(slices, same_pixels)
    rows, columns, spacing = require_common_grid(slices)
    normal = np.cross(rows, columns)
    places = np.array([slice_.frame.position for slice_ in slices], np.float64)
    heights = places @ normal
    order = np.lexsort((*places.T, heights))  # of copies in one place, not the order of files decides which is taken
    kept, dropped = _without_duplicates([slices[n] for n in order], heights[order], same_pixels)
    if len(kept) < 2:
        raise RefusedScanError("single_slice", "The series has only one slice, not a volume.")
    places = np.array([slice_.frame.position for slice_ in kept], np.float64)
    step = (places[-1] - places[0]) / (len(kept) - 1)
    affine = np.eye(4)
    # A step along the array's first axis is one to the next column, along the row's direction.
    affine[:3, :3] = LPS_TO_RAS @ np.stack([rows * spacing[1], columns * spacing[0], step], axis=1)
    affine[:3, 3] = LPS_TO_RAS @ places[0]
    _require_one_pass(kept, places @ normal)
    lying = (*_gap_flags(places @ normal), *_sideways_flags(places, normal, min(spacing)))
    flags = (*_duplicate_flags(dropped), *lying, *tilt_flags(affine))
    return SortedSlices(tuple(kept), affine, flags)


def _without_duplicates(
    slices: list[SliceOf], heights: NDArray[np.float64], same_pixels: Callable[[SliceOf, SliceOf], bool]
) -> tuple[list[SliceOf], int]:
    """Slices in order, each place once, and how many were dropped."""
    kept, at = [slices[0]], float(heights[0])
    for slice_, height in zip(slices[1:], heights[1:], strict=True):
        if height - at >= POSITION_TOLERANCE_MM:
            kept.append(slice_)
            at = float(height)
        elif not same_pixels(slice_, kept[-1]):
            raise RefusedScanError(
                "multiple_volumes",
                f"{slice_.image.path.name} and {kept[-1].image.path.name} show different things in the same place"
                f"{_name_differences(slice_, kept[-1])}: "
                "the series holds several volumes. Export each as a series of its own.",
            )
    return kept, len(slices) - len(kept)


def _name_differences(one: SliceOf, other: SliceOf) -> str:
    values = zip(PASS_FEATURES, one.frame.passes, other.frame.passes, strict=False)
    differing = [keyword for keyword, first, second in values if first != second]
    return f" and differ in {', '.join(differing)}" if differing else ""


def _require_one_pass(slices: Sequence[SliceOf], heights: NDArray[np.float64]) -> None:
    """See that no slice of another pass lies between slices that are complete without it; ``heights`` in mm."""
    if (stray := find_stray_slices(slices, heights)) is None:
        return
    attributes, those = stray
    raise RefusedScanError(
        "multiple_volumes",
        f"{list_file_names(those)} differ from the other slices in {', '.join(attributes)}, and lie between slices "
        "that are complete without them: they are of another pass. Export each pass as a series of its own.",
    )


def _duplicate_flags(dropped: int) -> tuple[QCFlag, ...]:
    if not dropped:
        return ()
    return (QCFlag("duplicate_slices", "warn", f"There twice and taken once: {plural(dropped, 'slice')}.", dropped),)


def _gap_flags(heights: NDArray[np.float64]) -> tuple[QCFlag, ...]:
    """Holes and uneven distances; ``heights`` in mm, increasing."""
    steps = np.diff(heights)
    if (at := find_alternation(steps)) is not None:
        raise RefusedScanError(
            "multiple_volumes",
            f"Distances by ImagePositionPatient alternate between {steps[at]:.2f} and {steps[at + 1]:.2f} mm: "
            "two passes lie in each other. Export each as a series of its own.",
        )
    usual = float(np.median(steps))
    # A hole is a whole number of the usual distances; after holes are counted, what is left is unevenness.
    counts = np.maximum(np.rint(steps / usual), 1)
    missing = int(counts.sum()) - len(steps)
    if missing:
        where = float(heights[np.argmax(counts > 1)] - heights[0])
        verb = "is" if missing == 1 else "are"
        detail = (
            f"{plural(missing, 'slice')} {verb} missing, {where:.1f} mm from the first (the others lie {usual:.2f} mm "
            "apart)."
        )
        return (QCFlag("missing_slices", "refuse", detail, missing),)
    even = np.linspace(heights[0], heights[-1], len(heights))
    off = float(np.abs(heights - even).max() / usual)
    if off <= SPACING_TOLERANCE:
        return ()
    detail = f"Slices lie up to {off:.2f} slice distances from where evenly spaced ones would."
    return (QCFlag("nonuniform_spacing", "refuse" if off > MIN_GAP_STEPS else "warn", detail, round(off, 3)),)


def find_alternation(steps: NDArray[np.float64]) -> int | None:
    """Where distances begin to alternate between two that differ: two regular stacks lie in each other from there."""
    apart = np.abs(steps[1:-1] - steps[:-2])
    distinct = apart > np.maximum(ALTERNATION_TOLERANCE * (steps[1:-1] + steps[:-2]) / 2, ROUNDING_MM)
    in_turn = distinct & (np.abs(steps[2:] - steps[:-2]) < apart / 4)
    runs = np.convolve(in_turn, np.ones(MIN_ALTERNATIONS), "valid") if len(in_turn) >= MIN_ALTERNATIONS else np.empty(0)
    found = np.flatnonzero(runs == MIN_ALTERNATIONS)
    return int(found[0]) if len(found) else None


def _sideways_flags(places: NDArray[np.float64], normal: NDArray[np.float64], pixel: float) -> tuple[QCFlag, ...]:
    """Slices that lie beside the line from the first to the last; ``places`` and ``pixel`` in mm."""
    heights = places @ normal
    along = ((heights - heights[0]) / (heights[-1] - heights[0]))[:, None]
    beside = places - (places[0] + along * (places[-1] - places[0]))
    off = float(np.linalg.norm(beside - np.outer(beside @ normal, normal), axis=1).max())
    if off <= SIDEWAYS_LIMITS[0] * pixel:
        return ()
    detail = f"Slices lie up to {off:.1f} mm beside the line from the first to the last."
    return (QCFlag("shifted_slices", "refuse" if off > SIDEWAYS_LIMITS[1] * pixel else "warn", detail, round(off, 3)),)
