"""Slices of a network input as pictures: in the lung window, with a map over them, and many in one small picture."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GrayImage = NDArray[np.uint8]
ColorImage = NDArray[np.uint8]

LUNG_WINDOW = (-1350.0, 150.0)
"""HU, centre -600 and width 1500: the usual window for lungs."""

HEATMAP_OPACITY = 0.65
"""Opacity of the map at its maximum: the slice below it must stay visible."""

MIN_TEXT_SIZE = 14
"""Pixels of burned-in text, at least."""

HEATMAP_LOW_COLOR, HEATMAP_HIGH_COLOR = (255, 64, 0), (255, 240, 64)
"""Colours of a map, from nothing to its highest; colour-blind readers distinguish red to yellow by lightness."""


def select_slices(depth: int, count: int) -> NDArray[np.intp]:
    """Indices of ``count`` slices, or all of fewer, evenly over the whole depth, the outermost ones included."""
    return np.linspace(0, depth - 1, min(count, depth)).round().astype(np.intp)


def apply_lung_window(volume: NDArray[np.float32], window: tuple[float, float]) -> GrayImage:
    """A network input in [0, 1], made with an HU window, as grey values of the lung window; any shape."""
    low, high = window
    return window_hu(low + volume * (high - low))


def window_hu(hu: NDArray[np.float32]) -> GrayImage:
    """HU as grey values of the lung window; any shape."""
    grey = (hu - LUNG_WINDOW[0]) * (255 / (LUNG_WINDOW[1] - LUNG_WINDOW[0]))
    return np.asarray(np.clip(grey, 0, 255).round(), np.uint8)


def colorize_map(overlay: NDArray[np.float32], peak: float) -> ColorImage:
    """A map as ``(..., 4)`` red, green, blue and opacity, ``peak`` being the highest; a map of nothing is invisible."""
    share = np.clip(overlay / peak, 0, 1) if peak > 0 else np.zeros_like(overlay)
    colours = [low + (high - low) * share for low, high in zip(HEATMAP_LOW_COLOR, HEATMAP_HIGH_COLOR, strict=True)]
    return np.stack([*colours, 255 * HEATMAP_OPACITY * share], axis=-1).round().astype(np.uint8)


def tile_slices(slices: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Slices ``(count, rows, columns, ...)`` in reading order in one picture; empty cells are 0."""
    count, height, width, *rest = slices.shape
    lines = -(-count // columns)
    whole = np.zeros((lines * columns, height, width, *rest), np.uint8)
    whole[:count] = slices
    apart = whole.reshape(lines, columns, height, width, *rest)
    return apart.swapaxes(1, 2).reshape(lines * height, columns * width, *rest)


def blend(gray: GrayImage, colors: ColorImage) -> ColorImage:
    """Grey values ``(...)`` under colours with opacity ``(..., 4)``, as ``(..., 3)``."""
    opacity = colors[..., 3:].astype(np.float32) / 255
    return (gray[..., None] * (1 - opacity) + colors[..., :3] * opacity).round().astype(np.uint8)


def burn_text(pixels: ColorImage, lines: Sequence[str]) -> ColorImage:
    """Colours ``(height, width, 3)`` with lines of text, white on black, in the lower left corner."""
    image = Image.fromarray(pixels)
    draw, text = ImageDraw.Draw(image), "\n".join(lines)
    place, font = (0, image.height), ImageFont.load_default(max(MIN_TEXT_SIZE, image.height // 32))
    draw.rectangle(draw.multiline_textbbox(place, text, font, anchor="ld"), fill=(0, 0, 0))
    draw.multiline_text(place, text, fill=(255, 255, 255), font=font, anchor="ld")
    return np.asarray(image)


def draw_overlay(
    volume: NDArray[np.float32], overlay: NDArray[np.float32], window: tuple[float, float], *, columns: int = 6
) -> ColorImage:
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
    chosen = select_slices(volume.shape[2], 2 * columns)
    grey = tile_slices(apply_lung_window(volume[:, :, chosen].transpose(2, 0, 1), window), columns)
    colour = tile_slices(colorize_map(overlay[:, :, chosen].transpose(2, 0, 1), float(overlay.max())), columns)
    return blend(grey, colour)


SPRITE_SLICES, COLUMNS = 16, 4
MAX_SLICE_SIDE = 128
"""Pixels of a slice; a larger network input is drawn smaller."""

WEBP_QUALITY = 70


def make_sprite(
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
        The class of the map.
    """
    chosen = select_slices(volume.shape[2], SPRITE_SLICES)
    size = _scale_slice_size(volume.shape[:2])
    lung = apply_lung_window(volume[:, :, chosen].transpose(2, 0, 1), window)
    packed = {
        "slices": len(chosen),
        "columns": COLUMNS,
        "lines": -(-len(chosen) // COLUMNS),
        "aspect": f"{size[0]} / {size[1]}",
        "lung": _to_data_url(_resize_slices(lung, size)),
    }
    if overlay is None:
        return packed
    colours = colorize_map(overlay[:, :, chosen].transpose(2, 0, 1), float(overlay.max()))
    return {**packed, "heat": _to_data_url(_resize_slices(colours, size)), "label": label}


def _scale_slice_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Width and height of a slice in pixels."""
    scale = min(1.0, MAX_SLICE_SIDE / max(shape))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def _resize_slices(slices: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Each slice by itself, so that none runs into its neighbour."""
    if slices.shape[1:3] == size[::-1]:
        return slices
    return np.stack([np.asarray(Image.fromarray(one).resize(size)) for one in slices])


def _to_data_url(slices: NDArray[np.uint8]) -> str:
    """Slices as one WebP inside a data address."""
    stream = io.BytesIO()
    Image.fromarray(tile_slices(slices, COLUMNS)).save(stream, format="WEBP", quality=WEBP_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
