"""Where in a DICOM file the pixels lie, and whether all of them are there. Nothing is decoded."""

import os
from dataclasses import dataclass
from typing import BinaryIO

PIXEL_DATA = (0x7FE0, 0x0010)
ITEM = (0xFFFE, 0xE000)
DELIMITER = (0xFFFE, 0xE0DD)
UNDEFINED = 0xFFFFFFFF

LONG_KINDS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
"""Value representations whose length takes four bytes (PS3.5, section 7.1.2)."""


@dataclass(frozen=True)
class PixelData:
    """The element that holds a file's pixels.

    Parameters
    ----------
    tag
        ``(group, element)``; None where the file ends before it.
    offset
        Byte at which its value begins.
    compressed
        Whether the value is a sequence of compressed fragments.
    length
        Bytes of the value that are there; of a compressed one, up to where it ends or the file does.
    complete
        Whether as many are there as the element says.
    """

    tag: tuple[int, int] | None
    offset: int = 0
    compressed: bool = False
    length: int = 0
    complete: bool = False


NO_PIXELS = PixelData(None)


def locate(stream: BinaryIO, *, implicit: bool, little: bool) -> PixelData:
    """Read the head of the element at which the stream stands, and follow its fragments to the end."""
    order = "little" if little else "big"
    size = os.fstat(stream.fileno()).st_size
    head = stream.read(8)
    if len(head) < 8:
        return NO_PIXELS
    tag = (int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order))  # type: ignore[arg-type]
    if implicit:
        length = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
    elif head[4:6] in LONG_KINDS:
        length = int.from_bytes(stream.read(4), order)  # type: ignore[arg-type]
    else:
        return PixelData(tag)
    offset = stream.tell()
    if length != UNDEFINED:
        there = min(length, size - offset)
        return PixelData(tag, offset, compressed=False, length=there, complete=there == length)
    end, complete = _end_of_fragments(stream, size)
    return PixelData(tag, offset, compressed=True, length=end - offset, complete=complete)


def _end_of_fragments(stream: BinaryIO, size: int) -> tuple[int, bool]:
    """Where the fragments end, and whether all of the last one is there. Compressed files are little-endian."""
    while True:
        at = stream.tell()
        head = stream.read(8)
        tag = (int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little"))
        length = int.from_bytes(head[4:], "little")
        if tag == DELIMITER and len(head) == 8:
            return at, True
        if tag != ITEM or len(head) < 8:
            # Some writers forget the delimiter: a file that ends exactly behind a fragment is whole.
            return at, not head
        if at + 8 + length > size:
            return size, False
        stream.seek(length, os.SEEK_CUR)
