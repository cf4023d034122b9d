"""Affine resampling by linear interpolation, for changes that keep every column of voxels upright.

``scipy.ndimage.affine_transform`` of order 1 does the same voxel by voxel in float64. Here the place in the plane
depends on the column ``volume[i, j, :]`` alone, and so does how far it is moved along itself: a sparse product does
the one, a copy of shifted windows the other. Both are single long calls that release the interpreter's lock, where
general trilinear interpolation in NumPy is hundreds of short ones that wait for each other in several threads.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ct3d_edge.augmentation.plane import linear_taps, plane_matrix


def resample(
    volume: NDArray[np.float32], matrix: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample ``volume`` at ``matrix @ (i, j) + offset + (0, 0, k)`` for each index ``(i, j, k)`` of the result.

    Zeros lie around the volume. Equals ``scipy.ndimage.affine_transform`` with ``order=1, mode="grid-constant"`` and
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
    """Columns ``(N, D)`` made in the plane by a product, each then moved by ``along`` ``(N,)`` voxels."""
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
