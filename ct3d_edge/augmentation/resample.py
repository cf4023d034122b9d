"""Affine resampling by linear interpolation that is the same for every plane of a volume, as one sparse product.

A sample between voxels is a weighted sum of a few of them, its taps. Their positions and weights are the same in every
plane ``volume[:, :, k]``: one sparse matrix of ``W * H`` columns holds them, and its product with the volume as a
``(W * H, D)`` matrix resamples all planes, along contiguous rows and with the interpreter's lock released.

``scipy.ndimage.affine_transform`` of order 1 does the same voxel by voxel in float64. Here every column of voxels stays
upright: the position in the plane depends on the column ``volume[i, j, :]`` alone, and so does its shift along itself.
The sparse product does the first, a copy of shifted windows the second. Both are single long calls that release the
interpreter's lock, where general trilinear interpolation in NumPy is hundreds of short ones that wait for each other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
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
    """Two taps for linear interpolation at positions ``(N,)``; zeros surround the axis."""
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


def resample(
    volume: NDArray[np.float32], matrix: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample ``volume`` at ``matrix @ (i, j) + offset + (0, 0, k)`` for each index ``(i, j, k)`` of the result.

    Zeros surround the volume. Equals ``scipy.ndimage.affine_transform`` with ``order=1, mode="grid-constant"`` and
    the column ``(0, 0, 1)`` appended to the matrix, within 1e-6.

    Parameters
    ----------
    volume
        ``(W, H, D)`` float32.
    matrix
        ``(3, 2)``, what a step along axis 0 or 1 of the result is in ``volume``, in voxels.
    offset
        ``(3,)``, in voxels.

    Returns
    -------
    ndarray
        New, ``(W, H, D)`` float32, C-contiguous.
    """
    width, height, depth = volume.shape
    ij = np.indices((width, height)).reshape(2, -1)
    rows, columns, along = matrix @ ij + offset[:, None]
    in_plane = plane_matrix(linear_taps(rows, width), linear_taps(columns, height), width, height)
    return _move_columns(in_plane, volume, np.clip(along, -depth - 1, depth)).reshape(volume.shape)


def _move_columns(in_plane: Any, volume: NDArray[np.float32], along: NDArray[np.float64]) -> NDArray[np.float32]:
    """Columns ``(N, D)`` interpolated in the plane by a product, each then moved by ``along`` ``(N,)`` voxels."""
    width, height, depth = volume.shape
    below = np.floor(along).astype(np.intp)
    front, back = max(0, -int(below.min())), max(0, int(below.max()) + 1)
    padded = np.zeros((width * height, front + depth + back), np.float32)
    padded.reshape(width, height, -1)[:, :, front : front + depth] = volume
    columns = in_plane @ padded
    starts = np.arange(len(columns)) * columns.shape[1] + front + below
    windows = sliding_window_view(columns.ravel(), depth + 1)[starts]
    fraction = (along - below).astype(np.float32)
    moved: NDArray[np.float32] = windows[:, 1:] - windows[:, :-1]
    moved *= fraction[:, None]
    moved += windows[:, :-1]
    return moved
