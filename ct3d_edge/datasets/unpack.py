"""Unpack the scans of a zip archive."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from ct3d_edge.datasets.download import OnProgress
from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.formatting import format_bytes, printable
from ct3d_edge.system.atomic_write import atomic_file, make_folder
from ct3d_edge.system.zip_entries import DAMAGE, ZipLimits, require_safe_entries

SUFFIXES = (".nii", ".nii.gz")
BLOCK_BYTES = 1 << 20
LIMITS = ZipLimits()


def require_disk_space(folder: Path, needed: int, purpose: str) -> None:
    """Raise a UsageError if the disk of ``folder`` has fewer than ``needed`` bytes left."""
    if needed > (free := shutil.disk_usage(folder).free):
        raise UsageError(
            f"{purpose} takes {format_bytes(needed)} in {folder}, where {format_bytes(free)} are free. "
            "Free some or name another folder, then run the same command again."
        )


def unpack_scans(archive: Path, folder: Path, on_progress: OnProgress) -> None:
    """Write the scans of a zip archive into ``folder``, without the folders that they have in the archive.

    Raises
    ------
    DatasetError
        If the archive is damaged, or holds a link, a path that leads elsewhere, a bomb or no scan.
    UsageError, OutputError, DiskError
        If there is not enough disk space, or a file cannot be written.
    """
    make_folder(folder)
    with _named(archive):
        opened = ZipFile(archive)
    with opened:
        with _named(archive):
            scans = _find_scans(opened.infolist())
        done, total = 0, sum(entry.file_size for entry in scans.values())
        require_disk_space(folder, total, f"Unpacking {archive.name}")
        for name, entry in scans.items():
            with atomic_file(folder / name) as stream:
                for block in _read_blocks(opened, entry, archive):
                    done += stream.write(block)
            on_progress(f"Unpacking {archive.name.partition('.')[0]}", done, total)
    if done != total:
        raise DatasetError(f"{archive} is damaged: its scans have {done:,} of {total:,} bytes.")


@contextmanager
def _named(archive: Path) -> Iterator[None]:
    """Name the archive where reading it fails; a disk that fails while scans are written is another error."""
    try:
        yield
    except DAMAGE as error:
        raise DatasetError(
            f"{archive} is no sound archive of scans: {printable(str(error))}. Remove it and run the command again."
        ) from error


def _read_blocks(opened: ZipFile, entry: ZipInfo, archive: Path) -> Iterator[bytes]:
    """The content of an entry; zipfile compares the checksum at its end and reads no more than the declared size."""
    with _named(archive):
        stream = opened.open(entry)
    with stream:
        while True:
            with _named(archive):
                block = stream.read(BLOCK_BYTES)
            if not block:
                return
            yield block


def _find_scans(entries: list[ZipInfo]) -> dict[str, ZipInfo]:
    """The scans by the name of their file; hidden ones (``__MACOSX/._scan.nii`` of macOS, say) are none."""
    require_safe_entries(entries, LIMITS)
    seen = [entry for entry in entries if not any(part.startswith(".") for part in entry.filename.split("/"))]
    named = [(entry.filename.rpartition("/")[2], entry) for entry in seen]
    scans = [(name, entry) for name, entry in named if name.lower().endswith(SUFFIXES)]
    if not scans or len({name.casefold() for name, _ in scans}) < len(scans):
        raise ValueError("it holds no scans, or two that would be one file")
    return dict(scans)
