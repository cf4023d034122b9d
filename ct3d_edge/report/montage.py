"""An overview picture: a row a scan, slices through what the network was given, and its answer."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ct3d_edge.atomic import atomic_file, require_writable
from ct3d_edge.errors import UsageError
from ct3d_edge.results import Record, known_class

SLICES = 6
CAPTION = 18
"""Height of a row's caption in pixels."""

MAX_ROWS = 200
"""Rows drawn at most; more would make a picture that no viewer opens."""

INK, PAPER = 235, 20


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
        self._left_out = 0

    def add(self, record: Record, volume: NDArray[np.float32]) -> None:
        """Add a scan: its network input ``(W, H, D)`` float32 in [0, 1], and its record for the caption."""
        if len(self._strips) < MAX_ROWS:
            self._strips.append(_strip(volume, _caption(record)))
        else:
            self._left_out += 1

    @property
    def scans(self) -> int:
        """How many were added."""
        return len(self._strips) + self._left_out

    def save(self) -> None:
        """Write the picture; what it does not show, it says in a last line.

        Raises
        ------
        UsageError
            If no scan was added, or the file cannot be written.
        """
        if not self._strips:
            raise UsageError(f"No scan was added to the picture {self.path}, so there is nothing to draw.")
        strips = [*self._strips]
        if self._left_out:
            strips.append(_strip(np.zeros((1, 256, 1), np.float32), f"and {self._left_out} more scans"))
        width = max(strip.width for strip in strips)
        page = Image.new("L", (width, sum(strip.height for strip in strips)), PAPER)
        top = 0
        for strip in strips:
            page.paste(strip, (0, top))
            top += strip.height
        with atomic_file(self.path) as stream:
            page.save(stream, format="PNG")


def _strip(volume: NDArray[np.float32], caption: str) -> Image.Image:
    """Slices through the middle 80 % of the third axis, side by side, under their caption."""
    depth = volume.shape[2]
    chosen = np.unique(np.linspace(0.1 * (depth - 1), 0.9 * (depth - 1), SLICES).round().astype(int))
    pixels = np.hstack([volume[:, :, index] for index in chosen])
    strip = Image.new("L", (pixels.shape[1], pixels.shape[0] + CAPTION), PAPER)
    ImageDraw.Draw(strip).text((4, 2), caption, fill=INK, font=ImageFont.load_default(12))
    # After the caption: a name that holds a newline must not be written over the slices.
    strip.paste(Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8)), (0, CAPTION))
    return strip


def _caption(record: Record) -> str:
    if record.answer is None:
        return Path(record.scan).name
    answer = record.answer
    said = f"{Path(record.scan).name}: {answer.label} {answer.confidence:.1%}"
    labels = [label for label, _ in answer.probability]
    if answer.threshold is not None:
        said += f" ({labels[-1]} from {answer.threshold:.1%} on)"
    known = known_class(record.scan, labels)
    return f"{said}, folder: {known}" if known else said
