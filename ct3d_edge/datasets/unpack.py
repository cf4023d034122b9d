"""The scans of a zip archive become a folder, complete or not at all, with safe names.

Which entries of a zip archive may be written to a disk, and under which names.

Nothing in an archive is trusted: all its entries are judged before the first is read.
"""

import os
import shutil
import stat
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from struct import error as StructError  # noqa: N812  # an exception by any name
from typing import Self
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from ct3d_edge.datasets.download import Moved, OnEvent, disk_errors, ignore_event, remove_folder, require_room
from ct3d_edge.errors import DatasetError

SUFFIXES = (".nii", ".nii.gz")
"""Endings of the scans; other files, as Finder and Explorer leave them in archives, are not unpacked."""

ENCRYPTED = 0x1
"""Bit of the general purpose flags (PKWARE's APPNOTE, 4.4.4)."""

REPARSE_POINT = 0x400
"""Windows' attribute of symbolic links and junctions."""

DEVICES = frozenset({"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))})
"""Names that are devices on Windows, whatever their ending."""


@dataclass(frozen=True)
class ArchiveLimits:
    """Beyond these an archive is not one of CT scans but one that would fill the disk.

    Parameters
    ----------
    entries
        Files and folders.
    entry_bytes
        Of one entry, unpacked: a gibibyte is a CT of 512 x 512 x 2048 voxels.
    total_bytes
        Of all entries, unpacked.
    ratio
        Unpacked to packed bytes of one entry; CT scans reach 2 to 3, deflate 1032.
    """

    entries: int = 10_000
    entry_bytes: int = 1 << 30
    total_bytes: int = 16 << 30
    ratio: int = 100


LIMITS = ArchiveLimits()


@dataclass(frozen=True)
class Member:
    """A scan in an archive, and the name that its file gets."""

    entry: ZipInfo
    name: str


def scans_in(entries: Iterable[ZipInfo], limits: ArchiveLimits = LIMITS) -> list[Member]:
    """Judge all entries and return the scans among them, whatever folders of the archive they are in.

    Raises
    ------
    DatasetError
        If one entry is nothing that a folder of scans would hold (a path that leads outside, a link, an encrypted or
        absurdly large file), two would have one name, or none is a scan.
    """
    entries = list(entries)
    if len(entries) > limits.entries:
        raise DatasetError(f"It has {len(entries):,} entries; {limits.entries:,} are allowed.")
    for entry in entries:
        if fault := _fault(entry, limits):
            raise DatasetError(f"Its entry {entry.orig_filename!r} {fault}.")
    if (total := sum(entry.file_size for entry in entries)) > limits.total_bytes:
        raise DatasetError(f"It would unpack to {total:,} bytes; {limits.total_bytes:,} are allowed.")
    members = [Member(entry, name) for entry in entries if (name := _scan_name(entry))]
    _refuse_collisions(entry.orig_filename.removesuffix("/") for entry in entries)
    _refuse_collisions(member.name for member in members)
    if not members:
        raise DatasetError(f"It holds no scans: none of its {len(entries)} entries ends in {' or '.join(SUFFIXES)}.")
    return members


def _fault(entry: ZipInfo, limits: ArchiveLimits) -> str | None:
    """What is wrong with an entry, or None."""
    if fault := _fault_of_name(entry.orig_filename) or _fault_of_kind(entry):
        return fault
    if entry.file_size > limits.entry_bytes:
        return f"would unpack to {entry.file_size:,} bytes; {limits.entry_bytes:,} are allowed"
    if entry.file_size > limits.ratio * max(entry.compress_size, 1):
        return f"would unpack to more than {limits.ratio} times its size"
    return None


def _fault_of_name(name: str) -> str | None:
    """Whether a path could lead outside of its folder, on this system or another."""
    parts = name.removesuffix("/").split("/")
    if name.startswith("/"):
        return "is an absolute path"
    if ".." in parts:
        return "leads out of its folder"
    if ":" in name or "\\" in name:
        return "names a drive, a stream or a path of Windows"
    if not name.isprintable() or not {"", "."}.isdisjoint(parts):
        return "is no plain path"
    if any(part.split(".")[0].strip().upper() in DEVICES for part in parts):
        return "names a device of Windows"
    return None


def _fault_of_kind(entry: ZipInfo) -> str | None:
    """Whether an entry is something else than a file or folder that can be read without a password."""
    kind = stat.S_IFMT(entry.external_attr >> 16)  # Unix writes the file mode here, others 0
    if kind == stat.S_IFLNK or entry.external_attr & REPARSE_POINT:
        return "is a link"
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR} or (kind == stat.S_IFDIR and not entry.is_dir()):
        return "is a special file"
    if entry.flag_bits & ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        return f"is compressed by method {entry.compress_type}, neither stored nor deflated"
    return None


def is_scan(name: str) -> bool:
    """Whether a file of this name is a scan to unpack or count."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _scan_name(entry: ZipInfo) -> str | None:
    """The last part of a scan's path; None for what is no scan or hidden (``._scan.nii`` of macOS, say)."""
    *folders, name = entry.orig_filename.split("/")
    hidden = any(folder.startswith(".") for folder in folders)
    return name if is_scan(name) and not hidden else None


def _refuse_collisions(names: Iterable[str]) -> None:
    """Names that differ in case or composition alone are one file on Windows and macOS."""
    seen: dict[str, str] = {}
    for name in names:
        key = unicodedata.normalize("NFC", name.casefold())
        if key in seen:
            raise DatasetError(f"Its entries {seen[key]!r} and {name!r} would be one file.")
        seen[key] = name


BLOCK = 1 << 20

UNSOUND = (BadZipFile, zlib.error, StructError, NotImplementedError, EOFError, ValueError, OverflowError, OSError)
"""All that zipfile was seen to raise about archives with bytes changed or cut off."""


@dataclass(frozen=True)
class ArchiveContents:
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
def unpacked(
    archive: Path, folder: Path, *, limits: ArchiveLimits = LIMITS, on_event: OnEvent = ignore_event
) -> Iterator[ArchiveContents]:
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
            contents = ArchiveContents(len(members), sum(member.entry.file_size for member in members))
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
