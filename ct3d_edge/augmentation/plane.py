"""Resampling that is the same for every plane of a volume, as one sparse product.

A sample between voxels is a weighted sum of a few of them, its taps. Where those lie and what they weigh is the same
in every plane ``volume[:, :, k]``: a sparse matrix of ``W * H`` columns says it once, and its product with the volume
as a ``(W * H, D)`` matrix does all planes, along rows that are contiguous and with the interpreter's lock released.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


@dataclass(frozen=True, eq=False)
class Taps:
    """Which samples along an axis make each of ``N`` values, and how much each of ``T`` weighs.

    ``index`` and ``weight`` are ``(N, T)``.
    """

    index: NDArray[np.intp]
    weight: NDArray[np.float64]


def linear_taps(position: NDArray[np.float64], size: int) -> Taps:
    """Two taps for linear interpolation at positions ``(N,)``; zeros lie around the axis."""
    low = np.floor(position)
    fraction = position - low
    index = low.astype(np.intp)[:, None] + np.arange(2)
    outside = (index < 0) | (index >= size)
    weight = np.where(outside, 0, np.stack([1 - fraction, fraction], axis=1))
    return Taps(np.where(outside, 0, index), weight)


def spline_taps(position: NDArray[np.float64], size: int) -> Taps:
    """Four taps of cubic B-spline coefficients at positions ``(N,)``; 0 outside, coefficients mirrored at both ends.

    As ``scipy.ndimage`` does in its mode "constant": a position outside, by however little, is 0.
    """
    low = np.floor(position)
    t = position - low
    weight = np.stack([(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3], axis=1) / 6
    inside = (position >= 0) & (position <= size - 1)
    index = low.astype(np.intp)[:, None] + np.arange(-1, 3)
    return Taps(_mirrored(index, size), weight * inside[:, None])


def plane_matrix(rows: Taps, columns: Taps, width: int, height: int) -> Any:
    """All pairs of taps along the two axes of a ``(W, H)`` plane: sparse ``(N, W * H)`` float32."""
    index = rows.index[:, :, None] * height + columns.index[:, None, :]
    weight = rows.weight[:, :, None] * columns.weight[:, None, :]
    ends = np.arange(len(index) + 1) * index[0].size
    return sparse.csr_matrix(
        (weight.astype(np.float32).ravel(), index.ravel(), ends), shape=(len(index), width * height)
    )


def _mirrored(index: NDArray[np.intp], size: int) -> NDArray[np.intp]:
    """Indices beyond an end, reflected about the centre of the last sample there: 2 1 | 0 1 2 3 | 2 1."""
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    wrapped = index % period
    return np.minimum(wrapped, period - wrapped)
