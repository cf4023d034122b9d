"""How and where the pixels of a DICOM file are stored; deflated files inflated if there is memory for it."""

import io
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from pydicom.dataset import Dataset

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.scan.archive import is_member
from ct3d_edge.scan.dicom.tags import read_integer, read_number
from ct3d_edge.scan.gzip_reader import ScanReader
from ct3d_edge.system.machine import read_available_memory

PIXEL_DATA = (0x7FE0, 0x0010)
ITEM = (0xFFFE, 0xE000)
DELIMITER = (0xFFFE, 0xE0DD)
UNDEFINED_LENGTH = 0xFFFFFFFF

LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
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


def locate_pixel_data(stream: BinaryIO, *, implicit: bool, little: bool) -> PixelData:
    """Read the head of the element at which the stream stands, and follow its fragments to the end."""
    order = "little" if little else "big"
    size = _stream_size(stream)
    head = stream.read(8)
    if len(head) < 8:
        return NO_PIXELS
    tag = (int.from_bytes(head[:2], order), int.from_bytes(head[2:4], order))  # type: ignore[arg-type]
    if implicit:
        length = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
    elif head[4:6] in LONG_VRS:
        length = int.from_bytes(stream.read(4), order)  # type: ignore[arg-type]
    else:
        return PixelData(tag)
    offset = stream.tell()
    if length != UNDEFINED_LENGTH:
        there = min(length, size - offset)
        return PixelData(tag, offset, compressed=False, length=there, complete=there == length)
    end, complete = _find_end_of_fragments(stream, size)
    return PixelData(tag, offset, compressed=True, length=end - offset, complete=complete)


def _stream_size(stream: BinaryIO) -> int:
    try:
        return os.fstat(stream.fileno()).st_size
    except io.UnsupportedOperation:  # in memory: see `open_dicom`
        position = stream.tell()
        size = stream.seek(0, os.SEEK_END)
        stream.seek(position)
        return size


def _find_end_of_fragments(stream: BinaryIO, size: int) -> tuple[int, bool]:
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


MIN_FRAGMENT_BYTES = 10
"""Bytes of the shortest compressed fragment: its head and two bytes."""

MAX_DEFLATED_FRAMES = 4096
"""More frames are not believed of a file whose length says nothing about them."""


@dataclass(frozen=True)
class PixelStorage:
    """How one pixel is stored: ``stored`` of ``allocated`` bits, the highest of them ``high``.

    ``missing`` names the elements that the file lacks; unsigned pixels that fill their bits from 0 stand in for them.
    """

    allocated: int
    stored: int
    high: int
    signed: bool
    missing: tuple[str, ...] = ()


def max_frames(pixels: PixelData, frame: int) -> int:
    """The most frames of ``frame`` bytes that a file can hold, at least one; compressed, each is a fragment."""
    if pixels.offset == 0:  # deflated: known only when it is decompressed
        return MAX_DEFLATED_FRAMES
    return max(pixels.length // (MIN_FRAGMENT_BYTES if pixels.compressed else max(frame, 1)), 1)


def read_pixel_storage(dataset: Dataset, name: str) -> PixelStorage:
    """How pixels are stored; ``name`` is the file's.

    Raises
    ------
    UnreadableScanError
        ``bad_header`` if the file does not say, or says something impossible.
    """
    allocated = read_integer(dataset, "BitsAllocated", name)
    given = {
        keyword: read_integer(dataset, keyword, name) for keyword in ("PixelRepresentation", "BitsStored", "HighBit")
    }
    if not allocated:
        raise UnreadableScanError("bad_header", f"{name} does not say how its pixels are stored.")
    stored, high = given["BitsStored"] or allocated, given["HighBit"]
    high = stored - 1 if high is None else high
    if not 0 < stored <= allocated or not stored - 1 <= high < allocated:
        raise UnreadableScanError("bad_header", f"{name} stores {stored} of {allocated} bits up to bit {high}.")
    missing = tuple(keyword for keyword, value in given.items() if value is None)
    return PixelStorage(allocated, stored, high, given["PixelRepresentation"] == 1, missing)


def read_padding_range(dataset: Dataset, name: str) -> tuple[int, int] | None:
    """The padding value and the other end of its range, which is the same without one; their signs may be wrong."""
    try:
        value, limit = (read_number(dataset, f"PixelPadding{end}", name) for end in ("Value", "RangeLimit"))
    except UnreadableScanError:  # a padding value that makes no sense pads nothing
        return None
    return None if value is None else (int(value), int(value if limit is None else limit))


MAX_INFLATED_MEMORY_FRACTION = 1 / 8
"""Of the available memory, what a file may take inflated: pydicom copies it, and so does whoever decodes it."""

INFLATE_CHUNK = 1 << 14
"""Bytes inflated at a time; they become 17 MB at most."""


class DeflatedFile(io.BufferedReader):
    """A file in which reading all that is left, which pydicom does before it inflates that, may be refused."""

    def __init__(self, path: Path) -> None:
        super().__init__(_open_raw(path))
        self._path = path

    def read(self, size: int | None = -1, /) -> bytes:
        """See `io.BufferedReader.read`.

        Raises
        ------
        UnreadableScanError
            ``too_large`` if all of the rest is asked for and would inflate to more than `MAX_INFLATED_MEMORY_FRACTION`.
        """
        data = super().read(size)
        reads_rest = size is None or size < 0
        available = read_available_memory() if reads_rest else None  # takes longer than a header's small reads
        if available is not None:
            _check_inflated_size(data, MAX_INFLATED_MEMORY_FRACTION * available, self._path.name)
        return data


def open_dicom(path: Path) -> BinaryIO:
    """Open a DICOM file; one that is compressed with gzip, or lies in an archive, is decompressed in memory.

    Raises
    ------
    OSError, UnreadableScanError
        See `ScanReader`.
    """
    return io.BufferedReader(_open_raw(path))


def _open_raw(path: Path) -> io.RawIOBase:
    if not is_member(path) and not path.name.lower().endswith(".gz"):
        return io.FileIO(path)
    with ScanReader(path) as reader:
        return cast(io.RawIOBase, _DecompressedFile(reader.read_all(), path))


class _DecompressedFile(io.BytesIO):
    """The content of a file, with the attribute that pydicom reads of files."""

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(content)
        self.name = str(path)


def _check_inflated_size(deflated: bytes, limit: float, name: str) -> None:
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    for begin in range(0, len(deflated), INFLATE_CHUNK):
        try:
            total += len(inflater.decompress(deflated[begin : begin + INFLATE_CHUNK]))
        except zlib.error:  # whoever inflates it will say so
            return
        if total > limit:
            raise UnreadableScanError(
                "too_large", f"{name} is {format_bytes(len(deflated))} that inflate to more than {format_bytes(limit)}."
            )
