"""Compute the affine in mm from the orientation fields of a NIfTI header, with repairs where needed.

The order is that of the standard (nifti1.h): the sform if its code is set, else the qform if its code is set, else
none. An unusable form is skipped with a quality flag.
"""

from typing import Any

import numpy as np
from nibabel.quaternions import quat2mat
from numpy.typing import NDArray

from ct3d_edge.scan.geometry_checks import BAD_AFFINE_FLAG, affine_agreement_flags, affine_if_valid, tilt_flags
from ct3d_edge.scan.qc_flag import QCFlag

MAX_QUATERNION_NORM = 1.01
"""Length of the vector part (b, c, d) up to which it is a unit quaternion that was rounded; nibabel allows 2e-7."""

MM_PER_UNIT = {1: ("metre", 1e3), 3: ("micrometre", 1e-3)}
"""Spatial units of ``xyzt_units`` other than mm, by code, and their length in mm."""

Affine = NDArray[np.float64]


def read_affine(header: Any, shape: tuple[int, int, int]) -> tuple[Affine | None, tuple[QCFlag, ...]]:
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
