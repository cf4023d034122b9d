"""How the pixels of a DICOM file are stored, and how many frames it can hold."""

from dataclasses import dataclass

from pydicom.dataset import Dataset

from ct3d_edge.errors import UnreadableScan
from ct3d_edge.scan.dicom.elements import number, whole
from ct3d_edge.scan.dicom.layout import PixelData

FRAGMENT = 10
"""Bytes of the shortest compressed fragment: its head and two bytes."""

DEFLATED_FRAMES = 4096
"""More frames are not believed of a file whose length says nothing about them."""


@dataclass(frozen=True)
class Storage:
    """How one pixel is stored: ``stored`` of ``allocated`` bits, the highest of them ``high``.

    ``missing`` names the elements that the file lacks; unsigned pixels that fill their bits from 0 stand in for them.
    """

    allocated: int
    stored: int
    high: int
    signed: bool
    missing: tuple[str, ...] = ()


def capacity(pixels: PixelData, frame: int) -> int:
    """The most frames of ``frame`` bytes that a file can hold, at least one; compressed, each is a fragment."""
    if pixels.offset == 0:  # deflated: known only when it is decompressed
        return DEFLATED_FRAMES
    return max(pixels.length // (FRAGMENT if pixels.compressed else max(frame, 1)), 1)


def read_storage(dataset: Dataset, name: str) -> Storage:
    """How pixels are stored; ``name`` is the file's.

    Raises
    ------
    UnreadableScan
        ``bad_header`` if the file does not say, or says something impossible.
    """
    allocated = whole(dataset, "BitsAllocated", name)
    given = {keyword: whole(dataset, keyword, name) for keyword in ("PixelRepresentation", "BitsStored", "HighBit")}
    if not allocated:
        raise UnreadableScan("bad_header", f"{name} does not say how its pixels are stored.")
    stored, high = given["BitsStored"] or allocated, given["HighBit"]
    high = stored - 1 if high is None else high
    if not 0 < stored <= allocated or not stored - 1 <= high < allocated:
        raise UnreadableScan("bad_header", f"{name} stores {stored} of {allocated} bits up to bit {high}.")
    missing = tuple(keyword for keyword, value in given.items() if value is None)
    return Storage(allocated, stored, high, given["PixelRepresentation"] == 1, missing)


def read_padding(dataset: Dataset, name: str) -> int | None:
    """The padding value; writers mix up its sign, which the caller has to bear."""
    try:
        found = number(dataset, "PixelPaddingValue", name)
    except UnreadableScan:  # a padding value that makes no sense pads nothing
        return None
    return None if found is None else int(found)
