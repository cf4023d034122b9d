"""The scans of an archive become a folder, complete or not at all."""

import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError  # noqa: N812  # an exception by any name
from typing import Self
from zipfile import BadZipFile, ZipFile

from ct3d_edge.datasets.published.archive import LIMITS, Limits, Member, is_scan, scans_in
from ct3d_edge.datasets.published.disk import disk_errors, remove_folder, require_room
from ct3d_edge.datasets.published.progress import Moved, OnEvent, silent
from ct3d_edge.errors import DatasetError

BLOCK = 1 << 20

UNSOUND = (BadZipFile, zlib.error, StructError, NotImplementedError, EOFError, ValueError, OverflowError, OSError)
"""All that zipfile was seen to raise about archives with bytes changed or cut off."""


@dataclass(frozen=True)
class Contents:
    """What a folder of scans holds: enough to see that it is still complete.

    Parameters
    ----------
    scans
        Number of files.
    bytes
        Of all of them.
    """

    scans: int
    bytes: int

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Count the scans that lie in ``folder``; hidden files, as systems add them, do not count."""
        scans = [path for path in folder.iterdir() if is_scan(path.name)]
        sizes = [path.stat().st_size for path in scans]
        return cls(len(sizes), sum(sizes))


@contextmanager
def unpacked(archive: Path, folder: Path, *, limits: Limits = LIMITS, on_event: OnEvent = silent) -> Iterator[Contents]:
    """Unpack the scans into a hidden neighbour of ``folder``, which gets its name when the block has ended well.

    Parameters
    ----------
    folder
        Must not exist; gets the scans without the folders that they have in the archive.

    Raises
    ------
    DatasetError
        If the archive is damaged, or holds something that no archive of scans would.
    UsageError
        If there is no room, or a file cannot be written.
    """
    hidden = folder.with_name(f".{folder.name}.part")
    remove_folder(hidden)  # of a run that was killed
    try:
        with _reading(archive), ZipFile(archive) as opened:
            members = scans_in(opened.infolist(), limits)
            contents = Contents(len(members), sum(member.entry.file_size for member in members))
            require_room(folder.parent, contents.bytes, f"Unpacking {folder.name}")
            _extract(opened, members, hidden, _counting(f"Unpacking {folder.name}", contents.bytes, on_event))
        yield contents
        with disk_errors(folder):
            hidden.rename(folder)
    except BaseException:
        shutil.rmtree(hidden, ignore_errors=True)
        raise


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Name the archive in what is found wrong with it."""
    try:
        yield
    except DatasetError as error:
        raise DatasetError(f"{archive} is refused. {error}") from error
    except UNSOUND as error:
        raise DatasetError(f"{archive} is no sound zip archive ({str(error)!a}).") from error


def _counting(what: str, total: int, on_event: OnEvent) -> Callable[[int], None]:
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        on_event(Moved(what, done, total))

    return count


def _extract(opened: ZipFile, members: list[Member], folder: Path, count: Callable[[int], None]) -> None:
    with disk_errors(folder):
        folder.mkdir()
    for member in members:
        written = _write(opened, member, folder / member.name, count)
        if written != member.entry.file_size:
            raise DatasetError(f"Its entry {member.name!r} has {written:,} of {member.entry.file_size:,} bytes.")


def _write(opened: ZipFile, member: Member, path: Path, count: Callable[[int], None]) -> int:
    """Copy one scan; zipfile compares its checksum at the end and reads no more than its declared size."""
    with disk_errors(path):
        stream = path.open("xb")
    with stream, opened.open(member.entry) as entry:
        while block := entry.read(BLOCK):
            with disk_errors(path):
                stream.write(block)
            count(len(block))
        with disk_errors(path):
            stream.flush()
            os.fsync(stream.fileno())  # or a crash could leave empty files under a complete folder's name
            return stream.tell()
