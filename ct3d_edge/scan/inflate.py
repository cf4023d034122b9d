"""Decompress a zlib stream, or gzip members behind which a file goes on.

isal's own gzip reader is faster. It takes any byte but zeros behind the last member for another member, and
raises before it has returned the voxels that it decompressed in the same call.
"""

import io
from typing import BinaryIO, Literal

from isal.igzip_lib import DECOMP_GZIP, DECOMP_ZLIB, IgzipDecompressor

GZIP_MAGIC = b"\x1f\x8b"
BLOCK_BYTES = 1 << 18


class InflateStream(io.RawIOBase):
    """The content of a compressed file from its present position; checksums are compared.

    Parameters
    ----------
    file
        The compressed file.
    encoding
        ``zlib`` for one stream (RFC 1950), ``gzip`` for members (RFC 1952), with zeros between them or without.
    """

    def __init__(self, file: BinaryIO, encoding: Literal["gzip", "zlib"]) -> None:
        self._file = file
        self._format = DECOMP_GZIP if encoding == "gzip" else DECOMP_ZLIB
        self._inflater = IgzipDecompressor(flag=self._format)
        self.has_trailing_bytes = False
        """Whether something else followed the last member; known at its end."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a part of ``buffer``; 0 at the end. Raises EOFError where the file ends inside a member."""
        data = b""
        while not data:
            stored = b""
            if self._inflater.eof:
                stored = self._begin_member()
                if not stored:
                    return 0
            elif self._inflater.needs_input and not (stored := self._file.read(BLOCK_BYTES)):
                raise EOFError
            data = self._inflater.decompress(stored, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _begin_member(self) -> bytes:
        """The first bytes of the next member; empty if there is none."""
        if self.has_trailing_bytes:
            return b""
        stored: bytes = self._inflater.unused_data.lstrip(b"\0")
        while len(stored) < len(GZIP_MAGIC) and (block := self._file.read(BLOCK_BYTES)):
            stored = (stored + block).lstrip(b"\0")
        if not stored.startswith(GZIP_MAGIC):
            self.has_trailing_bytes = bool(stored)
            return b""
        self._inflater = IgzipDecompressor(flag=self._format)
        return stored
