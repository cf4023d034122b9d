"""Whether a scan is like those of training: acquisition geometry, and features of the network."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import BODY_AXES, Bounds, TrainingRange
from ct3d_edge.formatting import plural
from ct3d_edge.preprocessing import OBLIQUE_DEGREES
from ct3d_edge.quality_control.ood_detector import MahalanobisOOD
from ct3d_edge.scan.geometry_checks import max_shear_degrees
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import Scan

IN_PLANE_SPACING_MM = (0.1, 5.0)
"""Voxel edges that a CT of a person has; beyond them a header is in other units or of something else."""

MAX_SLICE_SPACING_MM = 12.0
"""The thickest slices of a chest CT that can be interpolated between; MosMedData has 8 mm."""

CT_MATRIX = 512
"""Pixels a side of a CT slice as it is reconstructed; 512 of them are 0.5 to 0.98 mm wide in a chest, never 1."""

FOV_LENGTH_MM = (90.0, 700.0)
"""Along the body: below, not even a newborn's chest is covered; above, most of the body is there."""

WARN_BELOW_SLICES = 12
"""Fewer slices than this leave gaps of more than 25 mm in an adult's chest (300 mm)."""

REJECT_BELOW_SLICES = 8


def acquisition_flags(scan: Scan) -> list[QCFlag]:
    """Measured values of every check of geometry, most of them for the record only."""
    found = [_check_slice_count(scan)]
    if scan.affine is None or scan.spacing is None or scan.axis_code is None:
        return found
    tilt = max_shear_degrees(scan.affine)
    return [
        *_has_default_affine(scan),
        QCFlag("orientation", "ok", f"Array axes grow toward {scan.axis_code}.", scan.axis_code),
        _check_obliquity(scan),
        QCFlag("gantry_tilt", "ok", f"Array axes are at right angles within {tilt:.2f} degrees.", round(tilt, 2)),
        _check_spacing(scan.spacing),
        _check_coverage(scan, scan.spacing, scan.axis_code),
        *found,
    ]


def _has_default_affine(scan: Scan) -> list[QCFlag]:
    """Whether the affine is the one that software writes for an array whose geometry was lost."""
    if scan.affine is None or not np.array_equal(np.abs(scan.affine[:3, :3]), np.eye(3)):
        return []
    in_plane = sorted(scan.shape)[1:]
    nothing_known = np.array_equal(scan.affine, np.eye(4))
    if not nothing_known and not (in_plane[0] == in_plane[1] >= CT_MATRIX):
        return []
    what = "is the identity" if nothing_known else f"gives {in_plane[0]} x {in_plane[1]} pixels of exactly 1 mm"
    detail = f"The affine {what}, as software writes it where the geometry was lost; check orientation and spacing."
    return [QCFlag("default_affine", "warn", detail)]


def _check_obliquity(scan: Scan) -> QCFlag:
    degrees = scan.obliquity
    detail = f"The nearest body axes are {degrees:.1f} degrees away."
    return QCFlag("oblique", "warn" if degrees > OBLIQUE_DEGREES else "ok", detail, round(degrees, 2))


def _check_spacing(spacing: tuple[float, float, float]) -> QCFlag:
    smallest, middle, largest = sorted(spacing)
    plausible = (
        IN_PLANE_SPACING_MM[0] <= smallest and middle <= IN_PLANE_SPACING_MM[1] and largest <= MAX_SLICE_SPACING_MM
    )
    said = " x ".join(f"{edge:.3g}" for edge in spacing)
    detail = f"Voxels of {said} mm." if plausible else f"Voxels of {said} mm, which no chest CT has."
    return QCFlag("spacing", "ok" if plausible else "warn", detail, said)


def _check_coverage(scan: Scan, spacing: tuple[float, float, float], axis_code: str) -> QCFlag:
    extent = [size * edge for size, edge in zip(scan.shape, spacing, strict=True)]
    along = next(mm for mm, letter in zip(extent, axis_code, strict=True) if letter in "SI")
    usual = FOV_LENGTH_MM[0] <= along <= FOV_LENGTH_MM[1]
    detail = f"{along:.0f} mm along the body; {' x '.join(f'{mm:.0f}' for mm in extent)} mm in all."
    if not usual:
        detail += f" A chest takes {FOV_LENGTH_MM[0]:.0f} to {FOV_LENGTH_MM[1]:.0f} mm."
    return QCFlag("fov_extent", "ok" if usual else "warn", detail, round(along, 1))


def _check_slice_count(scan: Scan) -> QCFlag:
    count = min(scan.shape)
    severity = "refuse" if count < REJECT_BELOW_SLICES else "warn" if count < WARN_BELOW_SLICES else "ok"
    return QCFlag("too_few_slices", severity, f"{plural(count, 'slice')} along the shortest axis.", count)  # type: ignore[arg-type]


AXIS_LETTERS = ("LR", "AP", "SI")
"""Of axis codes, in the order of ``AXES``."""

EXTENT_SLACK = 1.1
"""Times a bound that a scan may extend: bodies and fields of view differ by that from one to the next."""

SAMPLING_SLACK = 2.2
"""Times a bound that voxel edges and slices may be, as between 256 and 512 pixels a side with ``EXTENT`` on top: every
scan is resampled to the network's input, and phantoms so much finer than in training gave features like theirs."""


@dataclass(frozen=True)
class AcquisitionGeometry:
    """How a scan lies, by axis of the body: ``extent_mm``, ``spacing_mm``, and ``slices`` along it."""

    extent_mm: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    slices: int

    @classmethod
    def of(cls, scan: Scan) -> "AcquisitionGeometry | None":
        """From a scan's header; None if that does not say."""
        spacing, code = scan.spacing, scan.axis_code
        if spacing is None or code is None or any(letter not in "LRAPSI" for letter in code):
            return None
        order = [next(n for n, letter in enumerate(code) if letter in pair) for pair in AXIS_LETTERS]
        extent = tuple(scan.shape[axis] * spacing[axis] for axis in order)
        return cls(extent, tuple(spacing[axis] for axis in order), scan.shape[order[-1]])


def compare_to_training(found: list[QCFlag], scan: Scan, trained: TrainingRange | None) -> list[QCFlag]:
    """Flags of the acquisition geometry, raised to warnings outside the range of the training scans, if that is known.

    Parameters
    ----------
    found
        From `acquisition_flags`; what is wrong by any measure is left as it is.
    """
    lie = AcquisitionGeometry.of(scan)
    if trained is None or lie is None:
        return found
    outside = {
        "fov_extent": _out_of_range(lie.extent_mm, trained.extent_mm, EXTENT_SLACK, "mm", trained.scans),
        "spacing": _out_of_range(lie.spacing_mm, trained.spacing_mm, SAMPLING_SLACK, "mm", trained.scans),
    }
    judged = [_to_warning(flag, outside.get(flag.code, "")) for flag in found]
    count = QCFlag("slice_count_shift", "ok", f"{plural(lie.slices, 'slice')} along the body.", lie.slices)
    return [
        *judged,
        _to_warning(count, _out_of_range((lie.slices,), (trained.slices,), SAMPLING_SLACK, "slices", trained.scans)),
    ]


def ood_flag(pooled: NDArray[np.float32], ood_flags: MahalanobisOOD) -> QCFlag:
    """How far the features ``(C,)`` that a network pools of a scan lie from those of its training scans."""
    (distance,) = ood_flags.distances(pooled[np.newaxis])
    given = ood_flags.statistics
    far = not distance <= given.threshold
    detail = (
        f"What the network sees lies {distance:.2f} from the {plural(given.scans, 'scan')} that taught it"
        f"{', further than' if far else '; the limit is'} {given.threshold:.2f}{': it was not made for this' * far}."
    )
    return QCFlag("out_of_distribution", "warn" if far else "ok", detail, f"{distance:.3f} {given.threshold:.3f}")


def _to_warning(flag: QCFlag, sentence: str) -> QCFlag:
    if not sentence or flag.severity != "ok":
        return flag
    return replace(flag, severity="warn", detail=f"{flag.detail} {sentence}")


def _out_of_range(found: tuple[float, ...], bounds: tuple[Bounds, ...], slack: float, unit: str, scans: int) -> str:
    """A sentence on what lies outside; empty if nothing does."""
    axes = BODY_AXES if len(found) == len(BODY_AXES) else BODY_AXES[-1:]
    said = [
        f"{value:.3g} {unit} {axis}, not {low:.3g} to {high:.3g}"
        for value, (low, high), axis in zip(found, bounds, axes, strict=True)
        if not low / slack <= value <= high * slack
    ]
    return f"The {plural(scans, 'scan')} that taught this model lay otherwise: {'; '.join(said)}." if said else ""
