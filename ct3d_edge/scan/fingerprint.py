"""The SHA-256 of a scan's files, and their state on disk."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.errors import ScanError, UnreadableScanError
from ct3d_edge.scan.archive import FileState, open_file, read_file_state
from ct3d_edge.scan.gzip_reader import ScanReader, no_cancellation
from ct3d_edge.scan.loader import is_series, list_scan_files, pass_of_path
from ct3d_edge.scan.nifti_header import header_and_voxel_paths
from ct3d_edge.system.zip_entries import DAMAGE

BLOCK = 1 << 20
"""Bytes hashed at a time: large enough to leave the interpreter's lock alone most of the time."""


def content_sha256(scan: Path | str, check_cancelled: Callable[[], None] = no_cancellation) -> str:
    """SHA-256 of a scan's files as stored.

    For a .hdr/.img pair, of both files, header first. For a DICOM series, of the sorted hashes of its files, without
    duplicates: names and copies do not change it. For a pass of a series, also of the name of the pass: one file may
    hold several passes.

    Parameters
    ----------
    check_cancelled
        Called after each block; its exception ends the hashing.

    Raises
    ------
    UnreadableScanError
        ``not_found``, ``unreadable``, ``empty``.
    RefusedScanError
        If it is not clear which DICOM series is meant.
    """
    files = list_scan_files(scan, check_cancelled)
    if is_series(scan):
        hashes = sorted({_sha256([file], check_cancelled) for file in files})
        return hashlib.sha256("\n".join([*hashes, *pass_of_path(Path(scan))]).encode()).hexdigest()
    return _sha256(files, check_cancelled)


def _sha256(files: Sequence[Path], check_cancelled: Callable[[], None]) -> str:
    """SHA-256 of the concatenated files."""
    digest = hashlib.sha256()
    for file in files:
        with ScanReader(file):  # raises the specific error if the file cannot be opened
            pass
        try:
            with open_file(file) as stream:
                while block := stream.read(BLOCK):
                    digest.update(block)
                    check_cancelled()
        except OSError as error:
            raise UnreadableScanError(
                "unreadable", f"{file.name} cannot be read: {error.strerror or error}."
            ) from error
        except DAMAGE as error:
            raise UnreadableScanError("bad_archive", f"{file.name} is damaged in its archive: {error}.") from error
    return digest.hexdigest()


@dataclass(frozen=True)
class FileStamp:
    """The state of a scan's files on disk; equal stamps mean that no file was modified in between.

    Parameters
    ----------
    files
        None for a missing file.
    """

    files: tuple[FileState | None, ...]

    @classmethod
    def of(cls, scan: Path, check_cancelled: Callable[[], None] = no_cancellation) -> "FileStamp":
        """The present stamp of a scan: of both files of a .hdr/.img pair, of all files of a series."""
        return cls(tuple(map(_stat, _files_or_path(scan, check_cancelled))))

    @property
    def complete(self) -> bool:
        """Whether all files exist and are not empty."""
        return all(file is not None and file.size > 0 for file in self.files)

    @property
    def last_modified_ns(self) -> int:
        """Time of the last change of any of them, in ns since 1970; 0 if none exists."""
        return max((file.modified_ns for file in self.files if file is not None), default=0)


def _files_or_path(scan: Path, check_cancelled: Callable[[], None]) -> tuple[Path, ...]:
    """The files of a scan; its path if they cannot be listed."""
    try:
        return list_scan_files(scan, check_cancelled)
    except (ScanError, OSError):
        return tuple(dict.fromkeys(header_and_voxel_paths(scan)))


def _stat(path: Path) -> FileState | None:
    try:
        return read_file_state(path)
    except (OSError, ValueError, UnreadableScanError):
        return None
