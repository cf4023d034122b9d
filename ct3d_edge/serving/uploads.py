"""From the body of a request to the one scan that it holds."""

import gzip
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from starlette.requests import Request

from ct3d_edge.errors import UnreadableScanError, UsageError
from ct3d_edge.formatting import format_bytes, list_names, printable
from ct3d_edge.scan.archive import is_archive, open_archive
from ct3d_edge.scan.dicom.magic import is_dicom
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.nifti_header import HEADER_TYPES
from ct3d_edge.serving.body import receive_body, receive_file
from ct3d_edge.serving.config import ServerLimits
from ct3d_edge.serving.multipart import MultipartWriter, boundary_of
from ct3d_edge.serving.request_error import RequestError

GZIP_MAGIC, ZIP_MAGIC = b"\x1f\x8b", (b"PK\x03\x04", b"PK\x05\x06")

TEXT_HEADERS = {b"NRRD": ".nrrd", b"Obje": ".mha", b"NDim": ".mha"}
"""How NRRD files begin, and MetaImage files (``ObjectType``, ``NDims``)."""

NIFTI_HEADER_SIZES = frozenset(HEADER_TYPES)
"""Which the first four bytes of a NIfTI file state."""

SUFFIXES = (".dcm.gz", ".dcm", ".zip", ".nrrd", ".mha", ".nii.gz", ".nii")
"""Which stored files are given, the longer of two first."""

MAX_NAME_LENGTH = 255


@dataclass(frozen=True)
class Upload:
    """The files of a body.

    Parameters
    ----------
    files
        Their paths, which the server chose.
    names
        What the client called each; None where it gave no usable name.
    """

    files: tuple[Path, ...]
    names: tuple[str | None, ...]

    def name_of(self, scan: Path) -> str:
        """The client's name of the file that holds a scan; of a series of several files, that of the first one."""
        inside = scan.relative_to(self.files[0].parent).parts
        file = inside[0].partition(".")[0] if inside else self.files[0].name
        names = dict(zip((file.name for file in self.files), self.names, strict=True))
        return names.get(file) or (scan.name if inside else "scan")

    def with_client_names(self, message: str) -> str:
        """A message with the client's name of each file in place of the one under which it is stored."""
        names = dict(zip((file.name for file in self.files), self.names, strict=True))
        stored = rf"\b({'|'.join(map(re.escape, names))})(?:{'|'.join(map(re.escape, SUFFIXES))})(?!\w)"
        return re.sub(stored, lambda found: names[found[1]] or found[0], message)


async def receive_upload(request: Request, folder: Path, limits: ServerLimits) -> Upload:
    """Store a body in ``folder``: one file, or the files of a multipart body.

    Raises
    ------
    RequestError
        If the body is refused; see `receive_body` and `MultipartWriter`.
    """
    boundary = boundary_of(request.headers.get("content-type", ""))
    if boundary is None:
        return Upload((await receive_file(request, folder / "scan", limits),), (None,))
    writer = MultipartWriter(boundary, folder, limits)
    await receive_body(request, writer, folder, limits)
    return Upload(tuple(writer.files), tuple(map(_plain_name, writer.names)))


def find_scan(upload: Upload, series: str | None, limits: ServerLimits) -> Path:
    """The scan in an upload: a file of its own, or the one scan in an archive or among several files.

    Parameters
    ----------
    series
        SeriesInstanceUID, if the upload holds several series.

    Raises
    ------
    RequestError
        If there is no scan, or more than one, or an archive exceeds a limit.
    """
    if len(upload.files) == 1:
        single = _add_suffix(upload.files[0], _suffix(upload.files[0]) or ".nii")
        if not is_archive(single) and series is None:
            return single  # whatever it is: its record has the reason
        roots = [single]
    else:
        roots = [_add_suffix(path, suffix) for path in upload.files if (suffix := _suffix(path))]
    for archive in filter(is_archive, roots):
        _require_limits(archive, limits)
    try:
        scans = find_scans([upload.files[0].parent], series)
    except UsageError as error:
        raise RequestError(422, "no_scan", f"The upload holds no scan{_of(series)}.") from error
    if len(scans) > 1:
        names = list_names([printable(upload.name_of(scan) if scan.is_file() else scan.name) for scan in scans], 10)
        raise RequestError(
            422, "several_scans", f"The upload holds {len(scans)} scans: {names}. Send one, or add ?series_uid=UID."
        )
    return scans[0]


def _of(series: str | None) -> str:
    return f" of series {printable(series[:64])}" if series else ""


def _require_limits(path: Path, limits: ServerLimits) -> None:
    """Refuse an archive of more files or bytes than the server reads; one that is damaged has a record that says so."""
    with suppress(UnreadableScanError):
        files = open_archive(path).files.values()
        if len(files) > limits.max_files or sum(entry.file_size for entry in files) > limits.max_unpacked:
            raise RequestError(
                413,
                "archive_too_large",
                f"The archive has more than {limits.max_files:,} files or {format_bytes(limits.max_unpacked)}.",
            )


def _suffix(path: Path) -> str | None:
    """The suffix of a scan's file by its content, as names in uploads are not used; None for other files."""
    with path.open("rb") as stream:
        first = stream.read(4)
    compressed = first.startswith(GZIP_MAGIC)
    if is_dicom(path):
        return ".dcm.gz" if compressed else ".dcm"
    if first in ZIP_MAGIC:
        return ".zip"
    if first in TEXT_HEADERS:
        return TEXT_HEADERS[first]
    with suppress(OSError, EOFError, zlib.error), (gzip.open if compressed else open)(path, "rb") as stream:
        first = stream.read(4)
        if {int.from_bytes(first, "little"), int.from_bytes(first, "big")} & NIFTI_HEADER_SIZES:
            return ".nii.gz" if compressed else ".nii"
    return None


def _add_suffix(path: Path, suffix: str) -> Path:
    return path.rename(path.with_name(path.name + suffix))


def _plain_name(name: str) -> str | None:
    """The last part of a client's file name, for the record alone."""
    last = PureWindowsPath(PurePosixPath(name).name).name
    return last if last and last.isprintable() and len(last) <= MAX_NAME_LENGTH else None
