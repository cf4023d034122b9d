"""A scan as a grid of slices, as the network sees it: the tutorial's montage."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ct3d_edge.atomic import atomic_file
from ct3d_edge.errors import UsageError


def slice_grid(volume: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.uint8]:
    """Arrange slices in reading order, evenly spaced from the first to the last.

    Parameters
    ----------
    volume
        ``(W, H, D)`` float32 in [0, 1], a network input.
    rows, columns
        Of the grid; with more places than slices the last ones stay black.

    Returns
    -------
    ndarray
        ``(rows * W, columns * H)`` grey values.

    Raises
    ------
    UsageError
        If rows or columns are below 1.
    """
    if rows < 1 or columns < 1:
        raise UsageError(f"A grid needs at least one row and one column, found {rows} x {columns}.")
    width, height, depth = volume.shape
    chosen = np.linspace(0, depth - 1, min(rows * columns, depth)).round().astype(int)
    grid = np.zeros((rows * columns, width, height), np.float32)
    grid[: len(chosen)] = volume.transpose(2, 0, 1)[chosen]
    tiled = grid.reshape(rows, columns, width, height).transpose(0, 2, 1, 3).reshape(rows * width, columns * height)
    return _grey(tiled)


def one_slice(volume: NDArray[np.float32], index: int) -> NDArray[np.uint8]:
    """One slice of a network input, ``(W, H)`` grey values; a negative index counts from the last.

    Raises
    ------
    UsageError
        If there is no such slice.
    """
    depth = volume.shape[2]
    if not -depth <= index < depth:
        raise UsageError(f"There is no slice {index}; the network input has {depth}, counted from 0.")
    return _grey(volume[:, :, index])


def save_picture(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write grey values ``(height, width)``, or colours ``(height, width, 3)``, as PNG; complete or not at all."""
    with atomic_file(path) as stream:
        Image.fromarray(pixels).save(stream, format="PNG")


def _grey(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (np.clip(values, 0, 1) * 255).round().astype(np.uint8)
