"""Open a scan of any supported format."""

from collections.abc import Callable, Collection
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from ct3d_edge.errors import ScanError, UnreadableScanError
from ct3d_edge.scan.archive import is_file, is_folder, path_exists
from ct3d_edge.scan.dicom.magic import has_dicom_suffix, is_dicom, is_series_name, split_series_name
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.nifti_header import header_and_voxel_paths, read_nifti_header
from ct3d_edge.scan.qc_flag import apply_overrides, raise_if_refused
from ct3d_edge.scan.streamed_scan import StreamedScan, VolumeHeader
from ct3d_edge.scan.volume import Scan

DETACHED_SUFFIXES = (".mhd", ".nhdr")
"""Headers whose voxels are usually in another file."""

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


def pass_of_path(path: Path) -> list[str]:
    """The name of the pass in ``folder/SERIES-UID#PASS``; none in other paths."""
    name = split_series_name(path.name)[1]
    return [name] if name and not path_exists(path) else []


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
