"""Checks of a zip archive that is not trusted: all entries are checked before the first is read."""

import stat
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath
from struct import error as StructError  # noqa: N812  # an exception by any name
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipInfo

from ct3d_edge.formatting import format_bytes, printable

ENCRYPTED = 0x1  # PKWARE's APPNOTE, 4.4.4
REPARSE_POINT = 0x400  # Windows' attribute of links and junctions
DAMAGE = (BadZipFile, zlib.error, StructError, RuntimeError, EOFError, ValueError, OverflowError, OSError)
"""All that zipfile was seen to raise about archives with bytes changed or cut off."""


@dataclass(frozen=True)
class ZipLimits:
    """What an archive may hold.

    Parameters
    ----------
    entries
        Files and folders.
    entry_bytes, total_bytes
        Unpacked size of one entry and of all.
    ratio
        Unpacked to packed bytes of an entry; CT scans reach 2 to 3, deflate 1032.
    ratio_from
        Unpacked bytes from which the ratio counts: one slice that shows nothing but air exceeds it.
    """

    entries: int = 10_000
    entry_bytes: int = 1 << 30  # a CT of 512 x 512 x 2048 voxels
    total_bytes: int = 16 << 30
    ratio: int = 100
    ratio_from: int = 0


def require_safe_entries(entries: Sequence[ZipInfo], limits: ZipLimits) -> None:
    """Raise for the first entry that is not a plain file or folder below the archive, and for a bomb.

    Raises
    ------
    ValueError
        Naming the entry, or the limit that all entries together exceed.
    """
    for entry in entries:
        if fault := _fault(entry, limits):
            raise ValueError(f"its entry {printable(entry.orig_filename)} {fault}")
    if len(entries) > limits.entries or sum(entry.file_size for entry in entries) > limits.total_bytes:
        raise ValueError(f"it would unpack to over {limits.entries:,} files or {format_bytes(limits.total_bytes)}")


def _fault(entry: ZipInfo, limits: ZipLimits) -> str | None:
    """What is wrong with an entry, or None."""
    name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)  # Unix writes the file mode here
    if {"", ".", ".."} & set(name.removesuffix("/").split("/")) or {":", "\\"} & set(name) or not name.isprintable():
        return "is no plain relative path"
    if PureWindowsPath(name).is_reserved():
        return "has a name that Windows reserves for a device"
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR} or entry.external_attr & REPARSE_POINT:
        return "is a link or special file"
    if entry.flag_bits & ENCRYPTED or entry.compress_type not in {ZIP_STORED, ZIP_DEFLATED}:
        return "is encrypted, or compressed by another method than deflate"
    bomb = entry.file_size > limits.ratio_from and entry.file_size > limits.ratio * max(entry.compress_size, 1)
    if entry.file_size > limits.entry_bytes or bomb:
        return f"would unpack from {entry.compress_size:,} to {entry.file_size:,} bytes"
    return None
