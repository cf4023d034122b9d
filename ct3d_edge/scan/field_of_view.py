"""What software fills in around an image: one value in the corners of a slice that is not air.

A volume that was rotated or resampled with a fill of 0 holds 0 HU there, which is water. Fill values that look like air
(-1000 HU and below) do no harm and are left alone.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

CORNER = 4
"""Pixels along each edge of a corner that must be equal. Tissue and air have noise."""

CORNERS = 2
"""Corners that must hold the value; a small rotation leaves tissue or air in the others."""

LIKE_TISSUE = (-500.0, 300.0)
"""HU between which a constant is a fill value: below is air, above an inverted image (the check `inverted`)."""


def fill_value(plane: NDArray[Any], slope: float, intercept: float) -> float | None:
    """The stored number that fills the corners of a slice and would be taken for tissue; None if none does.

    Parameters
    ----------
    plane
        ``(j, i)`` of stored numbers.
    slope, intercept
        ``HU = stored * slope + intercept``.
    """
    rows, columns = plane.shape
    if rows < 2 * CORNER or columns < 2 * CORNER or slope == 0:
        return None
    held = [
        float(corner[0, 0])
        for y in (slice(CORNER), slice(-CORNER, None))
        for x in (slice(CORNER), slice(-CORNER, None))
        if ((corner := plane[y, x]) == corner[0, 0]).all()
    ]
    for value in held:
        if LIKE_TISSUE[0] < value * slope + intercept < LIKE_TISSUE[1] and held.count(value) >= CORNERS:
            return value
    return None


def outside_rows(rows: NDArray[Any], fill: float) -> NDArray[np.bool_]:
    """Pixels of each row, ``(N, W)``, that hold the fill value all the way to the left or the right edge."""
    same = rows == fill
    from_left = np.logical_and.accumulate(same, axis=1)
    from_right = np.flip(np.logical_and.accumulate(np.flip(same, 1), axis=1), 1)
    outside: NDArray[np.bool_] = from_left | from_right
    return outside
