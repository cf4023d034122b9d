"""A scan of any supported format on disk: opened as a volume, and its files listed, hashed and watched for changes."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ct3d_edge.errors import ScanError, UnreadableScanError
from ct3d_edge.scan.archive import FileState, is_file, is_folder, open_file, path_exists, read_file_state
from ct3d_edge.scan.dicom.magic import has_dicom_suffix, is_dicom, is_series_name, split_series_name
from ct3d_edge.scan.gzip_reader import ScanReader, no_cancellation
from ct3d_edge.scan.nifti_header import header_and_voxel_paths, read_nifti_header
from ct3d_edge.scan.qc_flag import apply_overrides, raise_if_refused
from ct3d_edge.scan.streamed_scan import StreamedScan
from ct3d_edge.scan.volume import Scan, VolumeHeader
from ct3d_edge.system.zip_entries import DAMAGE

DETACHED_SUFFIXES = (".mhd", ".nhdr")
"""Headers whose voxels are usually in another file."""

HASH_BLOCK = 1 << 20
"""Bytes hashed at a time: large enough to leave the interpreter's lock alone most of the time."""

PYDICOM_INSTALL_COMMAND = 'pip install "pydicom>=3.0.1"'


def open_scan(
    path: Path | str,
    *,
    allow: Collection[str] = (),
    raise_refused: bool = True,
    check_cancelled: Callable[[], None] = no_cancellation,
) -> Scan:
    """Open a NIfTI, MetaImage or NRRD file or a DICOM series; NIfTI and DICOM are detected by content.

    Parameters
    ----------
    path
        A .nii, .nii.gz, .hdr, .img, .mha, .mhd, .nrrd or .nhdr file; a DICOM file, which stands for its whole series; a
        folder that holds one DICOM series; ``folder/SERIES-UID``; or ``folder/SERIES-UID#PASS``, one pass of a series.
    allow
        Codes of quality flags to downgrade one severity: ``refuse`` becomes ``warn``, ``warn`` becomes ``ok``.
    raise_refused
        If False, return the scan even if a quality flag has the severity ``refuse``.
    check_cancelled
        Called between blocks of reading; its exception ends the reading.

    Raises
    ------
    UnreadableScanError
        The files are missing, damaged, or of another kind; ``dicom_support_missing`` if the installation lacks pydicom.
    RefusedScanError
        They are not one volume of real numbers, or their geometry is not reliable.
    """
    scan: Scan
    path = Path(path)
    if is_series(path):
        _require_pydicom(path)
        from ct3d_edge.scan.dicom.series_finder import open_series

        scan = open_series(path, check_cancelled)
    else:
        scan = StreamedScan(path, _header_reader(path), check_cancelled)
    scan.flags = apply_overrides(scan.flags, allow)
    if raise_refused:
        raise_if_refused(scan.flags)
    return scan


def list_scan_files(path: Path | str, check_cancelled: Callable[[], None] = no_cancellation) -> tuple[Path, ...]:
    """The files that a scan is made of: one, a header and its voxel file, or those of a DICOM series.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        If there is no such DICOM series.
    """
    path = Path(path)
    if path.name.lower().endswith(DETACHED_SUFFIXES) and is_file(path):
        with suppress(ScanError):
            return tuple(dict.fromkeys((path, _header_reader(path)(path).voxel_path)))
        return (path,)
    if not is_series(path):
        return tuple(dict.fromkeys(header_and_voxel_paths(path)))
    _require_pydicom(path)
    from ct3d_edge.scan.dicom.series_finder import list_series_files

    return list_series_files(path, check_cancelled)


def patient_identifiers(path: Path | str) -> tuple[str, str] | None:
    """The patient's name and ID in a DICOM series; None for other scans.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        See `list_scan_files`.
    """
    path = Path(path)
    if not is_series(path):
        return None
    files = list_scan_files(path)
    from ct3d_edge.scan.dicom.patient_identity import patient_identity

    return patient_identity(files[0])


def is_series(path: Path | str) -> bool:
    """Whether a path stands for a DICOM series and not for a file of another format."""
    path = Path(path)
    if is_folder(path):
        return True
    if path_exists(path):
        return is_file(path) and (is_dicom(path) or has_dicom_suffix(path))
    return is_series_name(path.name) and is_folder(path.parent)


def _header_reader(path: Path) -> Callable[[Path], VolumeHeader]:
    """The function that reads the header of a volume file, by its name; NIfTI if the name is none of another format."""
    suffix = path.suffix.lower()
    if suffix in (".mha", ".mhd"):
        from ct3d_edge.scan.metaimage import read_metaimage_header

        return read_metaimage_header
    if suffix in (".nrrd", ".nhdr"):
        from ct3d_edge.scan.nrrd import read_nrrd_header

        return read_nrrd_header
    return read_nifti_header


def _require_pydicom(path: Path) -> None:
    """Raise the error of this scan if pydicom is missing; scans of other formats can be read."""
    if find_spec("pydicom") is None:
        raise UnreadableScanError(
            "dicom_support_missing",
            f"{path.name} is DICOM; pydicom, which reads it, is missing in this installation: "
            f"{PYDICOM_INSTALL_COMMAND}",
        )


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
        return hashlib.sha256("\n".join([*hashes, *_pass_of_path(Path(scan))]).encode()).hexdigest()
    return _sha256(files, check_cancelled)


def _pass_of_path(path: Path) -> list[str]:
    """The name of the pass in ``folder/SERIES-UID#PASS``; none in other paths."""
    name = split_series_name(path.name)[1]
    return [name] if name and not path_exists(path) else []


def _sha256(files: Sequence[Path], check_cancelled: Callable[[], None]) -> str:
    """SHA-256 of the concatenated files."""
    digest = hashlib.sha256()
    for file in files:
        with ScanReader(file):  # raises the specific error if the file cannot be opened
            pass
        try:
            with open_file(file) as stream:
                while block := stream.read(HASH_BLOCK):
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
        return cls(tuple(map(_state_if_readable, _files_or_path(scan, check_cancelled))))

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


def _state_if_readable(path: Path) -> FileState | None:
    try:
        return read_file_state(path)
    except (OSError, ValueError, UnreadableScanError):
        return None
