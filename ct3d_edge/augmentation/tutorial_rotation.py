"""The published tutorial's augmentation to the letter: a turn in the plane by one of six angles.

The tutorial calls ``scipy.ndimage.rotate``, which filters every plane to cubic B-spline coefficients and evaluates the
spline at the turned grid, all in float64. The filter is linear, and the turn is the same linear map for every plane:
both are matrices here, computed once for a plane's size and then applied to all planes in one product.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, special

from ct3d_edge.augmentation.resample import plane_matrix, spline_taps

ANGLES = (-20, -10, -5, 5, 10, 20)
"""Degrees, as published ("3D image classification from CT scans", Keras examples)."""


@dataclass(frozen=True)
class TutorialRotation:
    """Turn in the plane of axes 0 and 1 by one of ``ANGLES``, all equally likely.

    Equals ``scipy.ndimage.rotate(volume, angle, reshape=False)`` (cubic spline, 0 outside), clipped to [0, 1], within
    1e-5; several times faster.
    """

    def __call__(self, volume: NDArray[np.float32], rng: np.random.Generator, /) -> NDArray[np.float32]:
        """Turn ``(W, H, D)`` float32 by an angle drawn from ``rng``."""
        return rotate(volume, int(rng.choice(ANGLES)))


def rotate(volume: NDArray[np.float32], angle: int) -> NDArray[np.float32]:
    """Turn every plane ``volume[:, :, k]`` about its centre, then clip to [0, 1].

    Parameters
    ----------
    volume
        ``(W, H, D)`` float32.
    angle
        Degrees, as ``scipy.ndimage.rotate`` counts them.

    Returns
    -------
    ndarray
        New, ``(W, H, D)`` float32, C-contiguous.
    """
    width, height, depth = volume.shape
    filtered = _prefilter(width) @ volume.reshape(width, height * depth)
    coefficients = _prefilter(height) @ filtered.reshape(volume.shape)
    turned: NDArray[np.float32] = _turn(width, height, angle) @ coefficients.reshape(width * height, depth)
    return np.clip(turned, 0, 1, out=turned).reshape(volume.shape)


@lru_cache(maxsize=16)
def _prefilter(size: int) -> NDArray[np.float32]:
    """Samples along an axis to cubic B-spline coefficients: ``(size, size)``, by filtering the identity."""
    # SciPy prepares for mode "constant" with the boundary of mode "mirror".
    matrix = ndimage.spline_filter1d(np.eye(size), order=3, axis=0, mode="mirror")
    return np.asarray(matrix, np.float32)


@lru_cache(maxsize=2 * len(ANGLES))
def _turn(width: int, height: int, angle: int) -> Any:
    """Coefficients of a plane to its turned samples: sparse ``(W * H, W * H)`` float32, 16 numbers a row."""
    cosine, sine = special.cosdg(angle), special.sindg(angle)
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    centre = (np.array([width, height]) - 1) / 2
    i, j = np.indices((width, height)).reshape(2, -1)
    rows, columns = (
        row[0] * i + row[1] * j + start for row, start in zip(matrix, centre - matrix @ centre, strict=True)
    )
    turn = plane_matrix(spline_taps(rows, width), spline_taps(columns, height), width, height)
    turn.eliminate_zeros()
    return turn
