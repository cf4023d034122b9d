"""Slices of a network input as pictures: in the lung window, with a map over them."""

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Colour = NDArray[np.uint8]

LUNG_WINDOW = (-1350.0, 150.0)
"""HU, centre -600 and width 1500: the usual window for lungs."""

OPACITY = 0.65
"""Of the map at its highest: what lies under it must still be seen."""

FAINT, BRIGHT = (255, 64, 0), (255, 240, 64)
"""Colours of a map, from nothing to its highest; red to yellow is told apart by the colour-blind, too, by lightness."""


def chosen_slices(depth: int, count: int) -> NDArray[np.intp]:
    """Indices of ``count`` slices, or all of fewer, evenly over the whole depth, the outermost ones included."""
    return np.linspace(0, depth - 1, min(count, depth)).round().astype(np.intp)


def lung_window(volume: NDArray[np.float32], window: tuple[float, float]) -> Grey:
    """A network input in [0, 1], made with an HU window, as grey values of the lung window; any shape."""
    low, high = window
    hu = low + volume * (high - low)
    grey = (hu - LUNG_WINDOW[0]) * (255 / (LUNG_WINDOW[1] - LUNG_WINDOW[0]))
    return np.asarray(np.clip(grey, 0, 255).round(), np.uint8)


def heat(overlay: NDArray[np.float32], peak: float) -> Colour:
    """A map as ``(..., 4)`` red, green, blue and opacity, ``peak`` being the highest; a map of nothing is invisible."""
    share = np.clip(overlay / peak, 0, 1) if peak > 0 else np.zeros_like(overlay)
    colours = [low + (high - low) * share for low, high in zip(FAINT, BRIGHT, strict=True)]
    return np.stack([*colours, 255 * OPACITY * share], axis=-1).round().astype(np.uint8)


def tiled(slices: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Slices ``(count, rows, columns, ...)`` in reading order in one picture; places left over are 0."""
    count, height, width, *rest = slices.shape
    lines = -(-count // columns)
    whole = np.zeros((lines * columns, height, width, *rest), np.uint8)
    whole[:count] = slices
    apart = whole.reshape(lines, columns, height, width, *rest)
    return apart.swapaxes(1, 2).reshape(lines * height, columns * width, *rest)


def overlay_picture(
    volume: NDArray[np.float32], overlay: NDArray[np.float32], window: tuple[float, float], *, columns: int = 6
) -> Colour:
    """Two rows of slices with the map over them, ``(height, width, 3)``.

    Parameters
    ----------
    volume, overlay
        Network input in [0, 1] and the map on its grid, both ``(W, H, D)``.
    window
        HU window of the input.
    columns
        Slices a row.
    """
    chosen = chosen_slices(volume.shape[2], 2 * columns)
    grey = tiled(lung_window(volume[:, :, chosen].transpose(2, 0, 1), window), columns).astype(np.float32)
    colour = tiled(heat(overlay[:, :, chosen].transpose(2, 0, 1), float(overlay.max())), columns).astype(np.float32)
    opacity = colour[..., 3:] / 255
    return (grey[..., None] * (1 - opacity) + colour[..., :3] * opacity).round().astype(np.uint8)
