"""Domain-shift checks: a scan's acquisition geometry and network features against those of the training scans.

Features are compared by probabilistic principal components (Tipping & Bishop 1999, J. R. Stat. Soc. B 61:611): a
Gaussian whose covariance has its largest eigenvalues along a few directions and one variance, the mean of the remaining
eigenvalues, along all others. It needs no inverse of a large matrix, and holds where there are fewer scans than
features. That out-of-distribution features are far from the Gaussian is what Lee et al. (2018, arXiv 1807.03888) use.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct3d_edge.contract import BODY_AXES, Bounds, FeatureStatistics, TrainingRange
from ct3d_edge.formatting import plural
from ct3d_edge.scan.geometry_checks import OBLIQUE_DEGREES, max_shear_degrees
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import Scan

IN_PLANE_SPACING_MM = (0.1, 5.0)
"""Plausible voxel edges of a CT of a person; others mean another unit or another object."""

MAX_SLICE_SPACING_MM = 12.0
"""The thickest slices of a chest CT that can be interpolated between; MosMedData has 8 mm."""

CT_MATRIX = 512
"""Pixels per side of a reconstructed CT slice; 512 of them are 0.5 to 0.98 mm wide in a chest, never 1."""

FOV_LENGTH_MM = (90.0, 700.0)
"""Along the body: below, less than a newborn's chest; above, most of the body."""

WARN_BELOW_SLICES = 12
"""Fewer slices than this leave gaps of more than 25 mm in an adult's chest (300 mm)."""

REJECT_BELOW_SLICES = 8


def acquisition_flags(scan: Scan) -> list[QCFlag]:
    """Flags of all geometry checks, most of them with the severity ``ok``."""
    flags = [_check_slice_count(scan)]
    if scan.affine is None or scan.spacing is None or scan.axis_code is None:
        return flags
    tilt = max_shear_degrees(scan.affine)
    return [
        *_check_default_affine(scan),
        QCFlag("orientation", "ok", f"Array axes grow toward {scan.axis_code}.", scan.axis_code),
        _check_obliquity(scan),
        QCFlag("gantry_tilt", "ok", f"Array axes are at right angles within {tilt:.2f} degrees.", round(tilt, 2)),
        _check_spacing(scan.spacing),
        _check_coverage(scan, scan.spacing, scan.axis_code),
        *flags,
    ]


def _check_default_affine(scan: Scan) -> list[QCFlag]:
    """A flag if the affine is a default that software writes for an array without geometry."""
    if scan.affine is None or not np.array_equal(np.abs(scan.affine[:3, :3]), np.eye(3)):
        return []
    in_plane = sorted(scan.shape)[1:]
    is_identity = np.array_equal(np.abs(scan.affine), np.eye(4))  # of RAS+ or LPS+ axes
    if not is_identity and not (in_plane[0] == in_plane[1] >= CT_MATRIX):
        return []
    what = "is the identity" if is_identity else f"gives {in_plane[0]} x {in_plane[1]} pixels of exactly 1 mm"
    detail = f"The affine {what}, a default for lost geometry; check orientation and spacing."
    return [QCFlag("default_affine", "warn", detail)]


def _check_obliquity(scan: Scan) -> QCFlag:
    degrees = scan.obliquity
    detail = f"The nearest body axes are {degrees:.1f} degrees away."
    return QCFlag("oblique", "warn" if degrees > OBLIQUE_DEGREES else "ok", detail, round(degrees, 2))


def _check_spacing(spacing: tuple[float, float, float]) -> QCFlag:
    # To micrometres: 12 mm are 12.0000004 where a header gives float32 in another unit.
    smallest, middle, largest = (round(edge, 3) for edge in sorted(spacing))
    plausible = (
        IN_PLANE_SPACING_MM[0] <= smallest and middle <= IN_PLANE_SPACING_MM[1] and largest <= MAX_SLICE_SPACING_MM
    )
    edges = " x ".join(f"{edge:.3g}" for edge in spacing)
    detail = f"Voxels of {edges} mm." if plausible else f"Voxels of {edges} mm, which no chest CT has."
    return QCFlag("spacing", "ok" if plausible else "warn", detail, edges)


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
    limit = {
        "refuse": f" Fewer than {REJECT_BELOW_SLICES} are refused.",
        "warn": f" {WARN_BELOW_SLICES} or more are expected.",
    }.get(severity, "")
    detail = f"{plural(count, 'slice')} along the shortest axis.{limit}"
    return QCFlag("too_few_slices", severity, detail, count)  # type: ignore[arg-type]


AXIS_LETTERS = ("LR", "AP", "SI")
"""Of axis codes, in the order of ``AXES``."""

EXTENT_SLACK = 1.1
"""Tolerance factor of the extent: bodies and fields of view vary by as much."""

SAMPLING_SLACK = 2.2
"""Tolerance factor of voxel edges and slices, from 256 to 512 pixels per side times `EXTENT_SLACK`: every scan is
resampled to the network's input, and phantoms that much finer than in training had similar features."""


@dataclass(frozen=True)
class AcquisitionGeometry:
    """A scan's extent and spacing by body axis, and its number of slices along the body."""

    extent_mm: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    slices: int

    @classmethod
    def of(cls, scan: Scan) -> "AcquisitionGeometry | None":
        """The geometry in a scan's header; None if it has none."""
        spacing, code = scan.spacing, scan.axis_code
        if spacing is None or code is None or any(letter not in "LRAPSI" for letter in code):
            return None
        order = [next(n for n, letter in enumerate(code) if letter in pair) for pair in AXIS_LETTERS]
        extent = tuple(scan.shape[axis] * spacing[axis] for axis in order)
        return cls(extent, tuple(spacing[axis] for axis in order), scan.shape[order[-1]])


def compare_to_training(flags: list[QCFlag], scan: Scan, trained: TrainingRange | None) -> list[QCFlag]:
    """Flags of the acquisition geometry, raised to warnings outside the range of the training scans, if there is one.

    Parameters
    ----------
    flags
        From `acquisition_flags`; warnings and refusals are unchanged.
    """
    geometry = AcquisitionGeometry.of(scan)
    if trained is None or geometry is None:
        return flags
    outside = {
        "fov_extent": _out_of_range(geometry.extent_mm, trained.extent_mm, EXTENT_SLACK, "mm", trained.scans),
        "spacing": _out_of_range(geometry.spacing_mm, trained.spacing_mm, SAMPLING_SLACK, "mm", trained.scans),
    }
    compared = [_to_warning(flag, outside.get(flag.code, "")) for flag in flags]
    count = QCFlag("slice_count_shift", "ok", f"{plural(geometry.slices, 'slice')} along the body.", geometry.slices)
    return [
        *compared,
        _to_warning(
            count, _out_of_range((geometry.slices,), (trained.slices,), SAMPLING_SLACK, "slices", trained.scans)
        ),
    ]


class MahalanobisOOD:
    """Distance of features from those of the training scans.

    Parameters
    ----------
    statistics
        Of the training scans.
    """

    def __init__(self, statistics: FeatureStatistics) -> None:
        self.statistics = statistics
        self._mean = np.asarray(statistics.mean)
        self._directions = np.asarray(statistics.directions).reshape(-1, statistics.features)
        self._variances = np.asarray(statistics.variances)

    def distances(self, features: ArrayLike) -> NDArray[np.float64]:
        """Mahalanobis distances, divided by the root of the number of features: near 1 for training scans.

        Parameters
        ----------
        features
            ``(N, C)`` pooled features.

        Returns
        -------
        ndarray
            ``(N,)``; infinite where a feature is NaN or infinite.
        """
        found = np.asarray(features, np.float64)
        finite = np.asarray(np.isfinite(found).all(axis=1))
        centred = np.where(finite[:, np.newaxis], found, 0) - self._mean
        along = centred @ self._directions.T
        rest = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        squares = (along**2 / self._variances).sum(axis=1) + rest / self.statistics.residual_variance
        return np.where(finite, np.sqrt(squares / self.statistics.features), np.inf)


def ood_flag(pooled: NDArray[np.float32], detector: MahalanobisOOD) -> QCFlag:
    """The out-of-distribution flag of a scan's pooled features, ``(C,)``."""
    (distance,) = detector.distances(pooled[np.newaxis])
    statistics = detector.statistics
    far = not distance <= statistics.threshold
    detail = (
        f"The distance of the network's features to those of the {plural(statistics.scans, 'training scan')} is "
        f"{distance:.2f}; the limit is {statistics.threshold:.2f}."
    )
    return QCFlag("out_of_distribution", "warn" if far else "ok", detail, f"{distance:.3f} {statistics.threshold:.3f}")


def _to_warning(flag: QCFlag, sentence: str) -> QCFlag:
    if not sentence or flag.severity != "ok":
        return flag
    return replace(flag, severity="warn", detail=f"{flag.detail} {sentence}")


def _out_of_range(values: tuple[float, ...], bounds: tuple[Bounds, ...], slack: float, unit: str, scans: int) -> str:
    """A sentence on the values out of range; empty if there are none."""
    axes = BODY_AXES if len(values) == len(BODY_AXES) else BODY_AXES[-1:]
    outside = [
        f"{value:.3g} {unit} {axis}, not {low:.3g} to {high:.3g}"
        for value, (low, high), axis in zip(values, bounds, axes, strict=True)
        if not low / slack <= value <= high * slack
    ]
    return f"Outside the range of the {plural(scans, 'training scan')}: {'; '.join(outside)}." if outside else ""
