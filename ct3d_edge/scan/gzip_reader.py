"""Read the bytes of a scan file, plain, gzip by content or in an archive, with one error code per kind of damage."""

import gzip
import os
import stat
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, Self, cast
from zipfile import BadZipFile

from isal import igzip, igzip_lib

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.scan.archive import is_member, open_file, read_file_state
from ct3d_edge.scan.inflate import GZIP_MAGIC, InflateStream
from ct3d_edge.system.machine import read_available_memory

Encoding = Literal["auto", "raw", "gzip", "zlib"]
"""How a stream of voxels is compressed; ``auto``: with gzip if it begins so."""

BLOCK_BYTES = 1 << 18
"""Bytes decoded at a time: large enough to amortise the call, small enough to stay in the second-level cache."""

MAX_DEFLATE_RATIO = 1032
"""No deflate stream expands further than this (zlib's technical notes)."""

MAX_MEMORY_FRACTION = 0.5
"""Share of the available memory that a file may take which is read as a whole."""

MAX_TRAILER_BYTES = 1 << 20
"""Bytes allowed after the voxels; with more than such padding a file does not match its header."""


FILE_TYPES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def no_cancellation() -> None:
    """The default of ``check_cancelled``: do nothing."""


class ScanReader:
    """A scan file opened for reading from its start to its end, once.

    Its first bytes decide whether it is compressed, not its name.

    Parameters
    ----------
    path
        The file.
    start
        Byte at which to begin, of the file as stored.
    encoding
        How it is compressed from there.

    Raises
    ------
    UnreadableScanError
        ``not_found``, ``unreadable``, ``empty`` on opening; ``truncated``, ``bad_checksum``, ``corrupt_gzip``,
        ``trailing_data`` while reading.
    """

    def __init__(self, path: Path, start: int = 0, encoding: Encoding = "auto") -> None:
        self.path = path
        self._reading, self._close_requested = threading.Lock(), False
        self._in_archive = is_member(path)
        with self._translating():
            self._refuse_other_than_files()
            self._file = open_file(path)
            self.size = read_file_state(path).size if self._in_archive else os.fstat(self._file.fileno()).st_size
            magic = self._file.peek(2)[:2]  # type: ignore[attr-defined]
        if not magic:
            self._file.close()
            raise UnreadableScanError("empty", f"{path.name} is empty (0 bytes). Copy or export it again.")
        if encoding == "auto":
            encoding = "gzip" if magic == GZIP_MAGIC else "raw"
        self.compressed = encoding != "raw"
        self._start, self._stream, self._position = start, self._file, 0
        self.skip(start)
        self._position = 0
        if encoding == "gzip":
            self._stream = igzip.open(self._file, "rb")
        elif encoding == "zlib":
            self._stream = cast(BinaryIO, InflateStream(self._file, encoding))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, or have a thread that hangs in a read close it afterwards."""
        self._close_requested = True
        self._close_if_free()

    def _close_if_free(self) -> None:
        """Close the file unless a thread is reading: closing would wait for it."""
        if self._reading.acquire(blocking=False):
            try:
                self._stream.close()
                self._file.close()
            finally:
                self._reading.release()

    @property
    def capacity(self) -> int:
        """Upper bound of the decompressed size of the file in bytes."""
        stored = max(self.size - self._start, 0)
        return stored * MAX_DEFLATE_RATIO if self.compressed else stored

    @property
    def has_checksum(self) -> bool:
        """Whether its checksum is compared at its end, which `finish` reaches."""
        return self.compressed or self._in_archive

    def read_all(self) -> bytes:
        """The whole content, decompressed, if there is memory for it."""
        available = read_available_memory()
        limit = None if available is None else int(MAX_MEMORY_FRACTION * available)
        blocks, total = [], 0
        with self._using(), self._translating():
            while block := self._stream.read(BLOCK_BYTES):
                blocks.append(block)
                total += len(block)
                if limit is not None and total > limit:
                    raise UnreadableScanError(
                        "too_large", f"{self.path.name} is larger than {format_bytes(limit)}, half of the free memory."
                    )
        return b"".join(blocks)

    def read_head(self, count: int) -> bytes:
        """The next ``count`` bytes; fewer if the file ends before."""
        with self._using(), self._translating():
            return self._stream.read(count)

    def read(self, count: int) -> bytes:
        """Return exactly ``count`` bytes."""
        buffer = bytearray(count)
        self.fill(memoryview(buffer))
        return bytes(buffer)

    def fill(self, buffer: memoryview) -> None:
        """Fill ``buffer`` (bytes) completely."""
        done = 0
        with self._using(), self._translating():
            while done < len(buffer):
                got = self._read_into(buffer[done : done + BLOCK_BYTES])
                if not got:
                    raise self._truncated(f"{len(buffer) - done:,} bytes are missing")
                done += got

    def skip(self, count: int) -> None:
        """Skip ``count`` bytes; in blocks in a compressed file or archive, as a damaged header may give any number."""
        if self._stream is self._file and not self._in_archive:
            with self._translating():
                self._file.seek(count, os.SEEK_CUR)
            return
        scratch = memoryview(bytearray(min(count, BLOCK_BYTES)))
        while count:
            self.fill(scratch[:count])
            count -= min(count, BLOCK_BYTES)

    def finish(self) -> None:
        """Read to the end, so that the checksum of a compressed file is compared."""
        left, scratch = MAX_TRAILER_BYTES, memoryview(bytearray(BLOCK_BYTES))
        with self._using(), self._translating():
            while self.has_checksum and (extra := self._read_into(scratch)):
                left -= extra
                if left < 0:
                    raise UnreadableScanError(
                        "trailing_data", f"{self.path.name} contains far more data than its header describes."
                    )

    @property
    def has_trailing_bytes(self) -> bool:
        """Whether something else follows the compressed stream in the file; known after `finish`."""
        return isinstance(self._stream, InflateStream) and self._stream.has_trailing_bytes

    def _read_into(self, buffer: memoryview) -> int:
        """Fill a part of ``buffer``; 0 at the end. Where a gzip stream goes on as something else, the end is there."""
        try:
            got: int = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        except (gzip.BadGzipFile, EOFError) as error:
            begins_otherwise = isinstance(error, EOFError) or "Not a gzipped file" in str(error)
            if isinstance(self._stream, InflateStream) or not begins_otherwise:
                raise
            self._restart()
            got = self._stream.readinto(buffer)  # type: ignore[attr-defined]
        self._position += got
        return got

    def _restart(self) -> None:
        """Read the gzip stream from its start to the present position with `InflateStream`."""
        self._file.seek(self._start)
        self._stream = cast(BinaryIO, InflateStream(self._file, "gzip"))
        left, scratch = self._position, memoryview(bytearray(BLOCK_BYTES))
        while left and (got := self._stream.readinto(scratch[:left])):  # type: ignore[attr-defined]
            left -= got

    def _refuse_other_than_files(self) -> None:
        """Raise unless the path is a regular file: opening a named pipe could block for ever."""
        if self._in_archive:
            return
        mode = self.path.stat().st_mode
        if not stat.S_ISREG(mode):
            kind = FILE_TYPES.get(stat.S_IFMT(mode), "something else")
            raise UnreadableScanError("unreadable", f"{self.path.name} is {kind}, not a file.")

    def _truncated(self, detail: str) -> UnreadableScanError:
        return UnreadableScanError("truncated", f"{self.path.name} ends too early ({detail}). Copy or export it again.")

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Hold the lock for reading; close the file afterwards if `close` was called meanwhile."""
        try:
            with self._reading:
                yield
        finally:
            if self._close_requested:
                self._close_if_free()

    @contextmanager
    def _translating(self) -> Iterator[None]:
        name = self.path.name
        try:
            yield
        except EOFError as error:
            raise self._truncated("the compressed stream has no end") from error
        except (BadZipFile, zlib.error) as error:
            raise UnreadableScanError("bad_archive", f"{name} is damaged in its archive: {error}.") from error
        except gzip.BadGzipFile as error:
            code = "bad_checksum" if "check failed" in str(error) else "corrupt_gzip"
            raise UnreadableScanError(code, f"{name} is damaged: {error}. Copy or export it again.") from error
        except igzip_lib.error as error:
            code = "bad_checksum" if "checksum" in str(error) else "corrupt_gzip"
            raise UnreadableScanError(code, f"{name} is damaged inside its compressed stream ({error}).") from error
        except FileNotFoundError as error:
            raise UnreadableScanError("not_found", f"{name} does not exist.") from error
        except OSError as error:
            raise UnreadableScanError("unreadable", f"{name} cannot be read: {error.strerror or error}.") from error
