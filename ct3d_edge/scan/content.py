"""What a scan's files hold, as a hash: two names of one content are one scan."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.errors import UnreadableScan
from ct3d_edge.scan.header import pair_of
from ct3d_edge.scan.stream import ScanStream, go_on

BLOCK = 1 << 20
"""Bytes hashed at a time: large enough to leave the interpreter's lock alone most of the time."""


def content_sha256(scan: Path, on_block: Callable[[], None] = go_on) -> str:
    """Hash of a scan's bytes as they lie on the disk; of a .hdr/.img pair, of both, header first.

    Parameters
    ----------
    on_block
        Called after each block; what it raises ends the hashing.

    Raises
    ------
    UnreadableScan
        ``not_found``, ``unreadable``, ``empty``.
    """
    digest = hashlib.sha256()
    for part in dict.fromkeys(pair_of(scan)):
        with ScanStream(part):  # which says what is wrong with a file that cannot be opened
            pass
        try:
            with part.open("rb") as stream:
                while block := stream.read(BLOCK):
                    digest.update(block)
                    on_block()
        except OSError as error:
            raise UnreadableScan("unreadable", f"{part.name} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


@dataclass(frozen=True)
class Stamp:
    """What the file system says of a scan's files; equal stamps mean that nobody wrote to them in between.

    Parameters
    ----------
    files
        For each file: device, inode, size in bytes, time of the last change in ns; None for one that is not there.
    """

    files: tuple[tuple[int, int, int, int] | None, ...]

    @classmethod
    def of(cls, scan: Path) -> "Stamp":
        """The stamp of a scan as it is now; of both files of a .hdr/.img pair."""
        return cls(tuple(map(_stat, dict.fromkeys(pair_of(scan)))))

    @property
    def complete(self) -> bool:
        """Whether all files are there and hold something."""
        return all(file is not None and file[2] > 0 for file in self.files)

    @property
    def changed(self) -> int:
        """Time of the last change of any of them, in ns since 1970; 0 if none is there."""
        return max((file[3] for file in self.files if file is not None), default=0)


def _stat(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  # a path with a NUL or a loop is an error here as everywhere
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
