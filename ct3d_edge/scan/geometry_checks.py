"""Checks of voxel geometry and orientation, and detection of fill values around an image.

A fill value is a constant in the corners of a slice that is not air. A volume that was rotated or resampled with a fill
of 0 has 0 HU there, which is water. Fill values that look like air (-1000 HU and below) are harmless and are ignored.
"""

from typing import Any

import numpy as np
from nibabel import affines
from nibabel.orientations import aff2axcodes
from numpy.typing import NDArray

from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import Scan

CORNER_SIZE = 4
"""Pixels along each edge of a corner that must be equal. Tissue and air have noise."""

EDGE_RUN = 8
"""Pixels from a corner along an edge that must be equal where the fill is narrower than a corner: a rotation by 2
degrees leaves a wedge of one pixel in 64."""

MIN_CORNERS = 2
"""Corners that must hold the value; a small rotation leaves tissue or air in the others."""

TISSUE_HU = (-500.0, 300.0)
"""HU between which a constant is a fill value: air is below, an inverted image (`intensity_inverted`) above."""


def find_fill_value(plane: NDArray[Any], slope: float, intercept: float) -> float | None:
    """The stored value that fills the corners of a slice and would look like tissue; None if there is none.

    Parameters
    ----------
    plane
        ``(j, i)`` of stored numbers.
    slope, intercept
        ``HU = stored * slope + intercept``.
    """
    rows, columns = plane.shape
    if rows < 2 * CORNER_SIZE or columns < 2 * CORNER_SIZE or slope == 0:
        return None
    # Each corner as the first one: most hold air, and are not looked at any further.
    turned = [plane[::down, ::right] for down in (1, -1) for right in (1, -1)]
    corners = [float(each[0, 0]) for each in turned]
    fills = [value for value in corners if TISSUE_HU[0] < value * slope + intercept < TISSUE_HU[1]]
    for value in set(fills) if len(fills) >= MIN_CORNERS else ():
        if sum(_begins_with(each, value) for each in turned) >= MIN_CORNERS:
            return value
    return None


def _begins_with(plane: NDArray[Any], value: float) -> bool:
    """Whether a plane holds a value in its first corner, or from there along one of its two edges."""
    same = plane[:EDGE_RUN, :EDGE_RUN] == value
    return bool(same[:CORNER_SIZE, :CORNER_SIZE].all() or same[0].all() or same[:, 0].all())


def mask_outside_fov(rows: NDArray[Any], fill: float) -> NDArray[np.bool_]:
    """Pixels of each row, ``(N, W)``, in a run of the fill value that reaches the left or the right edge."""
    same = rows == fill
    from_left = np.logical_and.accumulate(same, axis=1)
    from_right = np.flip(np.logical_and.accumulate(np.flip(same, 1), axis=1), 1)
    outside: NDArray[np.bool_] = from_left | from_right
    return outside


MAX_COORDINATE_MM = 1e6
"""Largest entry of a usable affine, in mm: a kilometre. Squares of far larger ones overflow."""

MIN_VOXEL_MM = 1e-6
"""Smallest distance of two voxels in a usable affine, in mm: a nanometre. An axis of length 0 has no direction."""

BAD_AFFINE_FLAG = QCFlag("bad_affine", "warn", "The orientation in the header is unusable and was ignored.")

MAX_TILT_DEGREES = 1.0
"""Largest accepted deviation from a right angle: over 300 mm it shifts the far end of the scan by 5 mm."""

MAX_AFFINE_DISTANCE_MM = 1.0
"""The two orientations that a NIfTI header may hold disagree if a voxel differs by more than this."""


def affine_if_valid(affine: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """The affine itself; None if it is singular, not finite or too large."""
    if affine is None or not (np.abs(affine) <= MAX_COORDINATE_MM).all():  # NaN included
        return None
    usable = affines.voxel_sizes(affine).min() >= MIN_VOXEL_MM and None not in aff2axcodes(affine)
    return affine if usable else None


def max_shear_degrees(affine: NDArray[np.float64]) -> float:
    """Largest deviation from a right angle between two array axes, in degrees.

    >>> max_shear_degrees(np.diag([2.0, 2.0, 8.0, 1.0]))
    0.0
    """
    axes = affine[:3, :3] / affines.voxel_sizes(affine)
    cosines = np.abs((axes.T @ axes)[np.triu_indices(3, 1)])
    return float(np.rad2deg(np.arcsin(np.clip(cosines.max(), 0, 1))))


def tilt_flags(affine: NDArray[np.float64]) -> tuple[QCFlag, ...]:
    """A flag if slices are sheared, as by a tilted gantry."""
    tilt = max_shear_degrees(affine)
    if tilt <= MAX_TILT_DEGREES:
        return ()
    detail = f"Slices are stacked at {tilt:.1f} degrees from the perpendicular (tilted gantry); resample them first."
    return (QCFlag("gantry_tilt", "refuse", detail, round(tilt, 2)),)


def affine_agreement_flags(
    one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, int, int]
) -> tuple[QCFlag, ...]:
    """A flag if two affines, each ``(4, 4)``, map the voxels of a volume to different coordinates."""
    corners = np.stack(np.meshgrid(*([0, n - 1] for n in shape), indexing="ij"), -1).reshape(-1, 3)
    offsets = affines.apply_affine(one, corners) - affines.apply_affine(other, corners)
    distance = float(np.linalg.norm(offsets, axis=1).max())
    if not distance > MAX_AFFINE_DISTANCE_MM:
        return ()
    codes = ["".join(map(str, aff2axcodes(affine))) for affine in (one, other)]
    reoriented = codes[0] != codes[1]
    orientation = f"{codes[0]} and {codes[1]}" if reoriented else f"both {codes[0]}"
    detail = f"sform and qform disagree by up to {distance:.1f} mm ({orientation}); the sform was taken."
    return (QCFlag("qform_sform", "refuse" if reoriented else "warn", detail, round(distance, 2)),)


DEFAULT_ORIENTATION = "LAS"
"""NIfTI-1, method 1 (neither qform nor sform): the Analyze convention, as nibabel reads it too."""

ASSUMED_ORIENTATION_FLAG = QCFlag(
    "no_orientation", "warn", f"An array does not state its orientation; {DEFAULT_ORIENTATION} was assumed."
)
"""Of an array in memory, whose owner knows its axes. In a file the same is a guess, and refused."""

OBLIQUE_DEGREES = 5.0
"""A scan tilted further against its nearest axes gets a quality flag; patients are rarely straighter than this."""


def orientation_flags(scan: Scan) -> tuple[QCFlag, ...]:
    """A flag if the orientation of a scan is unknown, or oblique to the body axes."""
    if scan.axis_code is None:
        if any(flag.code == ASSUMED_ORIENTATION_FLAG.code for flag in scan.flags):
            return ()
        detail = f"The file does not state its orientation; if allowed, {DEFAULT_ORIENTATION} is assumed."
        return (QCFlag("no_orientation", "refuse", detail),)
    if scan.obliquity > OBLIQUE_DEGREES:
        detail = f"The scan is tilted by {scan.obliquity:.1f} degrees; its axes were taken as {scan.axis_code}."
        return (QCFlag("oblique", "warn", detail, round(scan.obliquity, 2)),)
    return ()
