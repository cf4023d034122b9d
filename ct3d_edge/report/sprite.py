"""The slices of a scan in one picture, small enough for a page of hundreds of scans."""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ct3d_edge.report.views import chosen_slices, heat, lung_window, tiled

SLICES, COLUMNS = 16, 4
LONGEST_SIDE = 128
"""Pixels of a slice; a larger network input is drawn smaller."""

QUALITY = 70


def sprite(
    volume: NDArray[np.float32], window: tuple[float, float], overlay: NDArray[np.float32] | None, label: str
) -> dict[str, Any]:
    """What the page's script needs to show a scan.

    Parameters
    ----------
    volume
        ``(W, H, D)`` float32 in [0, 1], the network input.
    window
        Its HU window.
    overlay
        The map on the same grid, or None.
    label
        The class that the map speaks for.
    """
    chosen = chosen_slices(volume.shape[2], SLICES)
    size = _size(volume.shape[:2])
    lung = lung_window(volume[:, :, chosen].transpose(2, 0, 1), window)
    packed = {
        "slices": len(chosen),
        "columns": COLUMNS,
        "lines": -(-len(chosen) // COLUMNS),
        "aspect": f"{size[0]} / {size[1]}",
        "lung": _address(_resized(lung, size)),
    }
    if overlay is None:
        return packed
    colours = heat(overlay[:, :, chosen].transpose(2, 0, 1), float(overlay.max()))
    return {**packed, "heat": _address(_resized(colours, size)), "label": label}


def _size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Width and height of a slice in pixels."""
    scale = min(1.0, LONGEST_SIDE / max(shape))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _resized(slices: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Each slice by itself, so that none runs into its neighbour."""
    if slices.shape[1:3] == size[::-1]:
        return slices
    return np.stack([np.asarray(Image.fromarray(one).resize(size)) for one in slices])


def _address(slices: NDArray[np.uint8]) -> str:
    """Slices as one WebP inside a data address."""
    stream = io.BytesIO()
    Image.fromarray(tiled(slices, COLUMNS)).save(stream, format="WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
