"""Read and validate the header of a NIfTI file: versions 1 and 2, single file or .hdr/.img pair.

nibabel parses the fields; this module checks their values.
"""

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.scan.dicom.magic import is_dicom
from ct3d_edge.scan.gzip_reader import ScanReader
from ct3d_edge.scan.nifti_affine import read_affine
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.streamed_scan import VolumeHeader, require_volume_shape

HEADER_TYPES: dict[int, tuple[type[Any], type[Any], slice]] = {
    348: (nib.Nifti1Header, nib.nifti1.Nifti1PairHeader, slice(344, 348)),
    540: (nib.Nifti2Header, nib.nifti2.Nifti2PairHeader, slice(4, 12)),
}
"""Header size, which the first four bytes state in the file's byte order: (single-file class, pair class, magic)."""

SINGLE, PAIR = b"n+", b"ni"
"""How the magic begins in a single file and in the header of a pair."""


def read_nifti_header(path: Path) -> VolumeHeader:
    """Read the header of a .nii, .nii.gz, .hdr or .img file; the format is detected by content.

    Raises
    ------
    UnreadableScanError
        The file is missing, empty, truncated, damaged or not NIfTI.
    RefusedScanError
        It is NIfTI, but not one volume of real numbers.
    """
    header_path, voxel_path = header_and_voxel_paths(path)
    with ScanReader(header_path) as stream:
        fields = _read_fields(stream)
        name_flags = _name_flags(path, stream)
    slope, intercept = _scaling(fields, path)
    shape, dtype, offset = _volume_shape(fields, path), _dtype(fields, path), _offset(fields, path)
    affine, affine_flags = read_affine(fields, shape)
    return VolumeHeader(shape, dtype, voxel_path, offset, affine, (*name_flags, *affine_flags), slope, intercept)


def header_and_voxel_paths(path: Path) -> tuple[Path, Path]:
    """Header file and voxel file of a scan; the same path twice unless it is a .hdr/.img pair."""
    if path.suffix.lower() not in (".hdr", ".img"):
        return path, path
    upper = path.suffix.isupper()
    return path.with_suffix(".HDR" if upper else ".hdr"), path.with_suffix(".IMG" if upper else ".img")


def _read_fields(stream: ScanReader) -> Any:
    """Nibabel's header object."""
    first = stream.read(min(4, stream.capacity))
    size = _header_size(first)
    if size is None:
        raise _not_nifti_error(stream, first)
    block = first + stream.read(size - 4)
    single, pair, magic = HEADER_TYPES[size]
    if block[magic][:2] not in (SINGLE, PAIR):
        raise UnreadableScanError(
            "not_nifti",
            f"{stream.path.name} is an Analyze 7.5 header without orientation. Convert it to NIfTI.",
        )
    return (single if block[magic][:2] == SINGLE else pair)(block, check=False)


def _header_size(first: bytes) -> int | None:
    sizes = (int.from_bytes(first, "little"), int.from_bytes(first, "big"))
    return next((size for size in sizes if size in HEADER_TYPES), None)


def _not_nifti_error(stream: ScanReader, first: bytes) -> UnreadableScanError:
    name = stream.path.name
    if is_dicom(stream.path):
        return UnreadableScanError("dicom_support_missing", f"{name} is DICOM, not NIfTI.")
    return UnreadableScanError("not_nifti", f"{name} is not a NIfTI file (it begins with bytes {first.hex(' ')}).")


def _volume_shape(header: Any, path: Path) -> tuple[int, int, int]:
    """``(i, j, k)``; longer shapes only if all further axes have length one."""
    rank = int(header["dim"][0])
    if not 1 <= rank <= 7:
        raise UnreadableScanError("bad_header", f"{path.name} has impossible dimensions {header['dim'].tolist()}.")
    return require_volume_shape([int(n) for n in header["dim"][1 : rank + 1]], path.name)


def _offset(header: Any, path: Path) -> int:
    """Byte at which the voxels begin in their file."""
    offset = float(header["vox_offset"])
    single = header["magic"].item()[:2] == SINGLE
    if single != (len(set(header_and_voxel_paths(path))) == 1):
        where = "the same file" if single else "another file"
        raise UnreadableScanError("bad_header", f"{path.name} declares its voxels in {where}; its name does not.")
    lowest = int(header["sizeof_hdr"]) if single else 0
    if not math.isfinite(offset) or (offset != 0 and offset < lowest):
        raise UnreadableScanError(
            "bad_header", f"{path.name} declares that its voxels begin at byte {offset}, inside the header."
        )
    # A single file may leave the field at 0; the standard then puts the voxels behind the four extension bytes.
    return int(offset) if offset else (lowest + 4 if single else 0)


def _dtype(header: Any, path: Path) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except (KeyError, HeaderDataError) as error:
        raise UnreadableScanError("bad_header", f"{path.name} has an unknown data type ({error}).") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise RefusedScanError("unsupported_dtype", f"{path.name} stores {dtype}; a CT has real numbers.")
    return dtype


def _scaling(header: Any, path: Path) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 or NaN means that the numbers are not scaled (NIfTI-1 standard)."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise UnreadableScanError("bad_header", f"{path.name} has an impossible scaling ({error}).") from error
    slope, intercept = (1.0 if slope is None else float(slope)), (0.0 if intercept is None else float(intercept))
    # NIfTI-2 scales by float64; beyond float32 a stored zero would become 0 * infinity.
    if max(abs(slope), abs(intercept)) > float(np.finfo(np.float32).max):
        raise UnreadableScanError("bad_header", f"{path.name} has an impossible scaling ({slope:g}, {intercept:g}).")
    return slope, intercept


def _name_flags(path: Path, stream: ScanReader) -> tuple[QCFlag, ...]:
    """A flag if the file's name and its first bytes disagree about compression."""
    if (path.suffix.lower() == ".gz") == stream.compressed:
        return ()
    is_, named = ("gzip-compressed", "uncompressed") if stream.compressed else ("uncompressed", "gzip-compressed")
    return (QCFlag("extension_mismatch", "warn", f"The file is {is_} although its name says {named}."),)
