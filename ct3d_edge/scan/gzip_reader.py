"""Read the bytes of a scan file, plain or gzip by content, with one error code per kind of damage."""

import gzip
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from isal import igzip, igzip_lib

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.scan.path_kind import describe_file_type

GZIP_MAGIC = b"\x1f\x8b"
BLOCK_BYTES = 1 << 18
"""Bytes decoded at a time: large enough to amortise the call, small enough to stay in the second-level cache."""

MAX_DEFLATE_RATIO = 1032
"""No deflate stream expands further than this (zlib's technical notes)."""

MAX_TRAILER_BYTES = 1 << 20
"""Bytes allowed after the voxels; with more than such padding a file does not match its header."""


def no_cancellation() -> None:
    """The default of ``check_cancelled``: do nothing."""


class ScanReader:
    """A scan file opened for reading from its start to its end, once.

    Its first bytes decide whether it is compressed, not its name.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    UnreadableScanError
        ``not_found``, ``unreadable``, ``empty`` on opening; ``truncated``, ``bad_checksum``, ``corrupt_gzip``,
        ``trailing_data`` while reading.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reading, self._close_requested = threading.Lock(), False
        with self._translating():
            self._refuse_other_than_files()
            self._file = path.open("rb")
            self.size = os.fstat(self._file.fileno()).st_size
            magic = self._file.peek(2)[:2]
        if not magic:
            self._file.close()
            raise UnreadableScanError("empty", f"{path.name} is empty (0 bytes). Copy or export it again.")
        self.compressed = magic == GZIP_MAGIC
        self._stream: BinaryIO = igzip.open(self._file, "rb") if self.compressed else self._file

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        return self.size * MAX_DEFLATE_RATIO if self.compressed else self.size

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
                got = self._stream.readinto(buffer[done : done + BLOCK_BYTES])  # type: ignore[attr-defined]
                if not got:
                    raise self._truncated(f"{len(buffer) - done:,} bytes are missing")
                done += got

    def skip(self, count: int) -> None:
        """Skip ``count`` bytes; in blocks in a compressed file, as a damaged header may give any number."""
        if not self.compressed:
            with self._translating():
                self._file.seek(count, os.SEEK_CUR)
            return
        scratch = memoryview(bytearray(min(count, BLOCK_BYTES)))
        while count:
            self.fill(scratch[:count])
            count -= min(count, BLOCK_BYTES)

    def finish(self) -> None:
        """Read to the end, so that the checksum of a compressed file is compared."""
        left = MAX_TRAILER_BYTES
        with self._using(), self._translating():
            while self.compressed and (extra := self._stream.read(BLOCK_BYTES)):
                left -= len(extra)
                if left < 0:
                    raise UnreadableScanError(
                        "trailing_data", f"{self.path.name} contains far more data than its header describes."
                    )

    def _refuse_other_than_files(self) -> None:
        """Raise unless the path is a regular file: opening a named pipe could block for ever."""
        mode = self.path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise UnreadableScanError("unreadable", f"{self.path.name} is {describe_file_type(mode)}, not a file.")

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
            raise self._truncated("the gzip stream has no end") from error
        except gzip.BadGzipFile as error:
            code = "bad_checksum" if "check failed" in str(error) else "corrupt_gzip"
            raise UnreadableScanError(code, f"{name} is damaged: {error}. Copy or export it again.") from error
        except igzip_lib.error as error:
            raise UnreadableScanError("corrupt_gzip", f"{name} is damaged inside its gzip stream ({error}).") from error
        except FileNotFoundError as error:
            raise UnreadableScanError("not_found", f"{name} does not exist.") from error
        except OSError as error:
            raise UnreadableScanError("unreadable", f"{name} cannot be read: {error.strerror or error}.") from error
