"""Read and validate the header of a NIfTI file: versions 1 and 2, single file or .hdr/.img pair.

nibabel parses the fields; this module checks their values and computes the affine in mm from the orientation fields.
The order is that of the standard (nifti1.h): the sform if its code is set, else the qform if its code is set, else
none. An unusable form is skipped with a quality flag.
"""

import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.quaternions import quat2mat
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.scan.dicom.magic import is_dicom
from ct3d_edge.scan.geometry_checks import BAD_AFFINE_FLAG, affine_agreement_flags, affine_if_valid, tilt_flags
from ct3d_edge.scan.gzip_reader import ScanReader
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import VolumeHeader, require_volume_shape

HEADER_TYPES: dict[int, tuple[type[Any], type[Any], slice]] = {
    348: (nib.Nifti1Header, nib.nifti1.Nifti1PairHeader, slice(344, 348)),
    540: (nib.Nifti2Header, nib.nifti2.Nifti2PairHeader, slice(4, 12)),
}
"""Header size, which the first four bytes state in the file's byte order: (single-file class, pair class, magic)."""

SINGLE, PAIR = b"n+", b"ni"
"""How the magic begins in a single file and in the header of a pair."""


MAX_QUATERNION_NORM = 1.01
"""Length of the vector part (b, c, d) up to which it is a unit quaternion that was rounded; nibabel allows 2e-7."""

MM_PER_UNIT = {1: ("metre", 1e3), 3: ("micrometre", 1e-3)}
"""Spatial units of ``xyzt_units`` other than mm, by code, and their length in mm."""

Affine = NDArray[np.float64]


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
    affine, affine_flags = _read_affine(fields, shape)
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
    return UnreadableScanError(
        "not_nifti",
        f"{name} is not a NIfTI file (it begins with bytes {first.hex(' ')}). Copy or export it again as NIfTI.",
    )


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


def _read_affine(header: Any, shape: tuple[int, int, int]) -> tuple[Affine | None, tuple[QCFlag, ...]]:
    """The affine of a NIfTI header, voxel indices to RAS+ mm, and its quality flags.

    Parameters
    ----------
    header
        Nibabel's header object, unchecked.
    shape
        Voxels along ``(i, j, k)``.

    Returns
    -------
    tuple
        ``(4, 4)`` float64, or None if neither form is declared, or none that is can be used (quality flag
        ``bad_affine``).
    """
    sform = affine_if_valid(_sform(header)) if int(header["sform_code"]) > 0 else None
    qform, repairs = _qform(header) if int(header["qform_code"]) > 0 else (None, [])
    qform = affine_if_valid(qform)
    affine = qform if sform is None else sform
    if affine is None:
        declared = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
        return None, (BAD_AFFINE_FLAG,) if declared else ()
    if sform is not None:
        agreement = () if qform is None or repairs else affine_agreement_flags(affine, qform, shape)
        return affine, (*agreement, *tilt_flags(affine), *_unit_flags(header))
    if int(header["sform_code"]) > 0:
        repairs.insert(0, "the sform cannot be used, the qform was taken")
    return affine, (*_repair_flags(repairs), *tilt_flags(affine), *_unit_flags(header))


def _unit_scale(header: Any) -> float:
    return MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, ("millimetre", 1.0))[1]


def _sform(header: Any) -> Affine:
    affine = np.eye(4)
    affine[:3] = [header["srow_x"], header["srow_y"], header["srow_z"]]
    with np.errstate(all="ignore"):  # an overflow is not finite, and `affine_if_valid` rejects it
        affine[:3] *= _unit_scale(header)
    return affine


def _qform(header: Any) -> tuple[Affine | None, list[str]]:
    """The affine of quaternion, offsets and voxel sizes (nifti1_io.c, nifti_quatern_to_mat44), and its repairs."""
    vector = np.array([header[f"quatern_{letter}"] for letter in "bcd"], np.float64)
    with np.errstate(all="ignore"):
        length = float(np.linalg.norm(vector))
    if not length <= MAX_QUATERNION_NORM:  # NaN included
        return None, []
    sizes, repairs = _voxel_edges(header)
    if length > 1:
        vector /= length
        # Rounding to float32 makes every second unit vector longer than 1 by as much: no repair to report.
        if length > 1 + 2 * float(np.finfo(np.float32).eps):
            repairs.append(f"the quaternion has the length {length:.6g} and was scaled to 1")
    scalar = np.sqrt(max(0.0, 1 - float(vector @ vector)))
    affine = np.eye(4)
    with np.errstate(all="ignore"):
        affine[:3, :3] = quat2mat([scalar, *vector]) * sizes
        affine[:3, 3] = [header[f"qoffset_{letter}"] for letter in "xyz"]
        affine[:3] *= _unit_scale(header)
    return affine, repairs


def _voxel_edges(header: Any) -> tuple[Affine, list[str]]:
    """Edges of a voxel, the last with the sign of qfac; 0 becomes 1 and signs are dropped, as nibabel does on loading.

    Some writers leave qfac at 0. Every value but a negative one means 1 (nifti1_io.c).
    """
    edges = np.array(header["pixdim"][1:4], np.float64)
    repairs = []
    if (edges == 0).any():
        repairs.append("a voxel edge (pixdim) of 0 was taken as 1; the voxel size is unknown")
    if (edges < 0).any():
        repairs.append("the sign of a negative voxel edge (pixdim) was dropped")
    edges = np.where(edges == 0, 1.0, np.abs(edges))
    edges[2] *= -1 if header["pixdim"][0] < 0 else 1
    return edges, repairs


def _repair_flags(repairs: list[str]) -> tuple[QCFlag, ...]:
    if not repairs:
        return ()
    detail = f"The orientation in the header was repaired: {'; '.join(repairs)}."
    return (QCFlag("affine_repaired", "warn", detail),)


def _unit_flags(header: Any) -> tuple[QCFlag, ...]:
    unit = MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if unit is None:
        return ()
    return (QCFlag("length_unit", "ok", f"The header's unit of length is the {unit[0]}; converted to mm.", unit[0]),)
