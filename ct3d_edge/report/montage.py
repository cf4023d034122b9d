"""An overview picture: a row a scan; and one scan as a grid of slices, as the network sees it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ct3d_edge.errors import UsageError
from ct3d_edge.report.table import find_folder_class
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.system.atomic_write import atomic_file, require_writable


def make_slice_grid(volume: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.uint8]:
    """Arrange slices in reading order, evenly spaced from the first to the last.

    Parameters
    ----------
    volume
        ``(W, H, D)`` float32 in [0, 1], a network input.
    rows, columns
        Of the grid; with more cells than slices the last ones stay black.

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
    return _to_gray(tiled)


def extract_slice(volume: NDArray[np.float32], index: int) -> NDArray[np.uint8]:
    """One slice of a network input, ``(W, H)`` grey values; a negative index counts from the last.

    Raises
    ------
    UsageError
        If there is no such slice.
    """
    depth = volume.shape[2]
    if not -depth <= index < depth:
        raise UsageError(f"There is no slice {index}; the network input has {depth}, counted from 0.")
    return _to_gray(volume[:, :, index])


def save_png(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write grey values ``(height, width)``, or colours ``(height, width, 3)``, as PNG; complete or not at all."""
    with atomic_file(path) as stream:
        Image.fromarray(pixels).save(stream, format="PNG")


def _to_gray(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (np.clip(values, 0, 1) * 255).round().astype(np.uint8)


SLICES_PER_SCAN = 6
CAPTION_HEIGHT = 18
"""Height of a row's caption in pixels."""

MAX_ROWS = 200
"""Rows drawn at most; more would make a picture that no viewer opens."""

FOREGROUND, BACKGROUND = 235, 20


class Montage:
    """Collects a strip of slices per scan and draws them below each other.

    Parameters
    ----------
    path
        PNG to write.

    Raises
    ------
    UsageError
        If it could not be written later, or its name does not end in .png.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() != ".png":
            raise UsageError(f"The picture is a PNG; its name must end in .png, found {path}.")
        require_writable(path)
        self.path = path
        self._strips: list[Image.Image] = []
        self._omitted = 0

    def add(self, record: ResultRecord, volume: NDArray[np.float32]) -> None:
        """Add a scan: its network input ``(W, H, D)`` float32 in [0, 1], and its record for the caption."""
        if len(self._strips) < MAX_ROWS:
            self._strips.append(_draw_strip(volume, _format_caption(record)))
        else:
            self._omitted += 1

    @property
    def scans(self) -> int:
        """How many were added."""
        return len(self._strips) + self._omitted

    def save(self) -> None:
        """Write the PNG; a last line counts the scans that are not shown.

        Raises
        ------
        UsageError
            If no scan was added, or the file cannot be written.
        """
        if not self._strips:
            raise UsageError(f"No scan was added to the picture {self.path}, so there is nothing to draw.")
        strips = [*self._strips]
        if self._omitted:
            strips.append(_draw_strip(np.zeros((1, 256, 1), np.float32), f"and {self._omitted} more scans"))
        width = max(strip.width for strip in strips)
        page = Image.new("L", (width, sum(strip.height for strip in strips)), BACKGROUND)
        top = 0
        for strip in strips:
            page.paste(strip, (0, top))
            top += strip.height
        with atomic_file(self.path) as stream:
            page.save(stream, format="PNG")


def _draw_strip(volume: NDArray[np.float32], caption: str) -> Image.Image:
    """Slices through the middle 80 % of the third axis, side by side, under their caption."""
    depth = volume.shape[2]
    chosen = np.unique(np.linspace(0.1 * (depth - 1), 0.9 * (depth - 1), SLICES_PER_SCAN).round().astype(int))
    pixels = np.hstack([volume[:, :, index] for index in chosen])
    strip = Image.new("L", (pixels.shape[1], pixels.shape[0] + CAPTION_HEIGHT), BACKGROUND)
    ImageDraw.Draw(strip).text((4, 2), caption, fill=FOREGROUND, font=ImageFont.load_default(12))
    # After the caption: a name that holds a newline must not be written over the slices.
    strip.paste(Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8)), (0, CAPTION_HEIGHT))
    return strip


def _format_caption(record: ResultRecord) -> str:
    if record.prediction is None:
        return Path(record.scan).name
    prediction = record.prediction
    caption = f"{Path(record.scan).name}: {prediction.label} {prediction.confidence:.1%}"
    labels = [label for label, _ in prediction.probability]
    if prediction.threshold is not None:
        caption += f" ({labels[-1]} at {prediction.threshold:.1%} or above)"
    known = find_folder_class(record.scan, labels)
    return f"{caption}, folder: {known}" if known else caption
