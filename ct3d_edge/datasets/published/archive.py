"""Which entries of a zip archive may be written to a disk, and under which names.

Nothing in an archive is trusted: all its entries are judged before the first is read.
"""

import stat
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipInfo

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
class Limits:
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


LIMITS = Limits()


@dataclass(frozen=True)
class Member:
    """A scan in an archive, and the name that its file gets."""

    entry: ZipInfo
    name: str


def scans_in(entries: Iterable[ZipInfo], limits: Limits = LIMITS) -> list[Member]:
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


def _fault(entry: ZipInfo, limits: Limits) -> str | None:
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
