"""Scans in object storage (``s3://``, ``gs://``, whatever fsspec opens): found by name, copied where they are read."""

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from ct3d_edge.errors import NoScansError, OutputError, UnreadableScanError, UsageError
from ct3d_edge.scan.dicom.magic import has_dicom_suffix
from ct3d_edge.scan.discovery import MASK_SUFFIXES

SINGLE_FILE_SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd", ".zip")
"""Objects that are a scan each. Headers with a second file are not among them."""

BLOCK_BYTES = 8 << 20

_COLLAPSED_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])", re.IGNORECASE)


def parse_url(path: str | Path) -> str | None:
    """The URL that an argument names, also after `Path` has removed one of its slashes; None for a path."""
    found = _COLLAPSED_URL.match(str(path))
    return None if found is None else f"{found[1]}://{str(path)[found.end() :]}"


def find_remote_scans(url: str) -> list[str]:
    """URLs of the scans under a URL, sorted.

    A NIfTI, MetaImage or NRRD file in one object is a scan, so is a zip archive of one DICOM series; objects with the
    suffix of DICOM files are one scan per folder. Hidden objects and masks are ignored.

    Raises
    ------
    UsageError
        If the storage cannot be reached, or the package for it is missing.
    NoScansError
        If there is no scan.
    """
    filesystem, path = _open_filesystem(url)
    try:
        objects = [path] if filesystem.isfile(path) else filesystem.find(path)
    except Exception as error:  # each storage has its own kinds
        raise UsageError(f"Cannot list {url}: {_describe(error)}.") from error
    scans = {scan for name in objects if (scan := _scan_of(name)) is not None}
    if not scans:
        endings = ", ".join(SINGLE_FILE_SUFFIXES)
        raise NoScansError(f"No scans under {url}: looked for objects ending in {endings} or .dcm.", skipped=False)
    return sorted(filesystem.unstrip_protocol(scan) for scan in scans)


def require_storage(url: str) -> None:
    """Make sure that this machine has what opens a URL.

    Raises
    ------
    UsageError
        If not.
    """
    _open_filesystem(url)


@contextmanager
def local_copy(url: str) -> Iterator[Path]:
    """A copy of a scan's objects in a private temporary folder, removed afterwards.

    Raises
    ------
    UnreadableScanError
        ``unreadable``.
    OutputError
        The disk of this machine is full.
    """
    with TemporaryDirectory(prefix="ct3d-edge-") as folder:
        try:
            copy = _copy(url, Path(folder))
        except (UsageError, OutputError):
            raise
        except Exception as error:
            raise UnreadableScanError("unreadable", f"{url} cannot be read: {_describe(error)}.") from error
        yield copy


def _copy(url: str, folder: Path) -> Path:
    filesystem, path = _open_filesystem(url)
    target = folder / posixpath.basename(path.rstrip("/"))
    if filesystem.isfile(path):
        objects = {path: target}
    else:
        target.mkdir()
        objects = {name: target / posixpath.basename(name) for name in filesystem.ls(path, detail=False)}
        objects = {name: copy for name, copy in objects.items() if has_dicom_suffix(copy)}
    for name, copy in objects.items():
        with filesystem.open(name, "rb") as source, copy.open("wb") as stream:
            while block := source.read(BLOCK_BYTES):
                _write(stream, block, copy.parent)
    return target


def _write(stream: BinaryIO, block: bytes, folder: Path) -> None:
    try:
        stream.write(block)
        stream.flush()
    except OSError as error:
        raise OutputError(f"No copy of a scan can be written to {folder}: {error.strerror}. Set TMPDIR.") from error


def _scan_of(name: str) -> str | None:
    """The scan that an object is, or belongs to; None if to none."""
    path = PurePosixPath(name)
    lower = path.name.lower()
    if path.name.startswith("."):
        return None
    if lower.endswith(SINGLE_FILE_SUFFIXES):
        stem = lower.removesuffix(".gz").rpartition(".")[0]
        return None if stem.endswith(MASK_SUFFIXES) else name
    return str(path.parent) if has_dicom_suffix(Path(path.name)) else None


def _open_filesystem(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        filesystem, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"{url} needs fsspec and its package for this storage (s3fs for s3://, gcsfs for gs://): {error}."
        ) from error
    return filesystem, str(path)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip(".: ")
