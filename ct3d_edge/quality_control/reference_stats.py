"""Statistics of the training scans for the contract, computed at the end of a training run."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct3d_edge.contract import Bounds, Contract, FeatureStatistics, TrainingRange
from ct3d_edge.errors import ContractError, DatasetError, ScanError
from ct3d_edge.formatting import plural
from ct3d_edge.quality_control.domain_shift import AcquisitionGeometry, MahalanobisOOD
from ct3d_edge.scan.loader import open_scan

PERCENTILES = (1, 99)
"""Not the extremes: one header in other units among a thousand would widen the range to anything."""

MIN_SCANS = 10
"""Scans below which a range depends more on chance than on the scanner."""

DIGITS = 4

MAX_DIRECTIONS = 10
"""At most; with ten, phantoms were distinguished from other objects as well as with fewer or more (docs/inputs.md)."""

MIN_FEATURE_SCANS = 20, 10
"""Scans to fit on, and others for the threshold, below which neither is reliable."""

THRESHOLD_QUANTILE = 0.99
"""Of the distances of held-out scans."""

THRESHOLD_MARGIN = 1.25
"""Times that quantile: of a few dozen held-out scans it is hardly more than the largest that happened to be drawn."""

MIN_RELATIVE_STD = 0.01
"""Of the features' root mean square: a direction in which they vary less is taken to vary by that. Files in fewer bits
move features by such parts (docs/inputs.md), and a distance must not be made of rounding."""

SIGNIFICANT_DIGITS = 5
"""Of the stored numbers; distances then differ in the fourth."""


def with_training_stats(
    contract: Contract, scans: Iterable[Path], train_features: ArrayLike | None, val_features: ArrayLike | None
) -> tuple[Contract, tuple[str, ...]]:
    """Add the training range and the statistics of features to a contract.

    Parameters
    ----------
    scans
        The training scans; only their headers are read.
    train_features, val_features
        Pooled features ``(N, C)`` of these and of other scans; None of a network that pools none.

    Returns
    -------
    tuple
        The contract, without what cannot be known, and a sentence on each of the two.
    """
    trained = acquisition_range(scans)
    range_note = (
        f"training range: {describe_range(trained)}"
        if trained
        else f"no training range: fewer than {MIN_SCANS} training scans have a known voxel size"
    )
    if train_features is None or val_features is None:
        none = "no feature statistics: the network has no global average pooling in front of its dense layers"
        return replace(contract, training_range=trained, feature_statistics=None), (range_note, none)
    try:
        statistics = fit_feature_statistics(train_features, val_features)
    except DatasetError as error:
        none = f"no statistics: {error}"
        return replace(contract, training_range=trained, feature_statistics=None), (range_note, none)
    except ContractError:  # a network may give features of any scale, and the training run must not be lost for it
        large = f"{float(np.nanmax(np.abs(train_features))):.1e}"
        none = f"no feature statistics: the features reach {large}, and numbers of that size are not for a contract"
        return replace(contract, training_range=trained, feature_statistics=None), (range_note, none)
    made = replace(contract, training_range=trained, feature_statistics=statistics)
    return made, (range_note, f"feature statistics: {describe_statistics(statistics)}")


def acquisition_range(scans: Iterable[Path]) -> TrainingRange | None:
    """Percentiles of the geometry of scans, from their headers; None if fewer than ten of them have one."""
    found = [geometry for scan in scans if (geometry := _read_geometry(scan)) is not None]
    if len(found) < MIN_SCANS:
        return None
    return TrainingRange(
        scans=len(found),
        extent_mm=_bounds([geometry.extent_mm for geometry in found]),
        spacing_mm=_bounds([geometry.spacing_mm for geometry in found]),
        slices=_percentile_bounds([geometry.slices for geometry in found]),
    )


def _read_geometry(scan: Path) -> AcquisitionGeometry | None:
    """The geometry of a scan; None of one that is gone by now, which must not end the training run."""
    try:
        return AcquisitionGeometry.of(open_scan(scan, raise_refused=False))
    except ScanError:
        return None


def _bounds(rows: Sequence[tuple[float, ...]]) -> tuple[Bounds, Bounds, Bounds]:
    across, deep, along = (_percentile_bounds(column) for column in zip(*rows, strict=True))
    return across, deep, along


def _percentile_bounds(values: Sequence[float]) -> Bounds:
    low, high = (float(f"{value:.{DIGITS}g}") for value in np.percentile(values, PERCENTILES))
    return low, high


def fit_feature_statistics(train_features: ArrayLike, val_features: ArrayLike) -> FeatureStatistics:
    """Describe the features of training scans, and find from which distance on a scan is unlike them.

    Parameters
    ----------
    train_features
        ``(N, C)`` pooled features of training scans.
    val_features
        ``(M, C)`` of scans that the network was not trained on: training scans are nearer than any other.

    Raises
    ------
    DatasetError
        If there are too few scans, or all have the same features.
    """
    rows, others = (_drop_non_finite_rows(features) for features in (train_features, val_features))
    if len(rows) < MIN_FEATURE_SCANS[0] or len(others) < MIN_FEATURE_SCANS[1]:
        raise DatasetError(
            f"{len(rows)} training and {len(others)} validation scans are too few to detect scans unlike them: "
            f"{MIN_FEATURE_SCANS[0]} and {MIN_FEATURE_SCANS[1]} are needed."
        )
    fitted = _fit_ppca(rows, len(others))
    threshold = THRESHOLD_MARGIN * float(np.quantile(MahalanobisOOD(fitted).distances(others), THRESHOLD_QUANTILE))
    return replace(fitted, threshold=_round_significant(threshold))


def _fit_ppca(rows: NDArray[np.float64], val_scans: int) -> FeatureStatistics:
    mean = rows.mean(axis=0)
    _, singular, vectors = np.linalg.svd(rows - mean, full_matrices=False)
    eigenvalues = singular**2 / (len(rows) - 1)
    size = rows.shape[1]
    count = min(MAX_DIRECTIONS, size - 1, int((eigenvalues > 0).sum()) - 1)
    if count < 0:
        raise DatasetError("The network gives all scans the same features: out-of-distribution detection cannot work.")
    least = MIN_RELATIVE_STD**2 * float((rows**2).mean())
    residual = float(eigenvalues[count:].sum() / (size - count))
    return FeatureStatistics(
        mean=tuple(map(_round_significant, mean)),
        directions=tuple(tuple(map(_round_significant, vector)) for vector in vectors[:count]),
        variances=tuple(_round_significant(max(value, least)) for value in eigenvalues[:count]),
        residual_variance=_round_significant(max(residual, least)),
        threshold=1.0,
        scans=len(rows),
        held_out=val_scans,
    )


def _drop_non_finite_rows(features: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(features, np.float64)
    return np.asarray(found[np.isfinite(found).all(axis=1)])


def _round_significant(number: float) -> float:
    return float(f"{number:.{SIGNIFICANT_DIGITS}g}")


def describe_range(trained: TrainingRange) -> str:
    """A training range in one line."""
    extent, spacing = (
        ", ".join(_format_bounds(side) for side in part) for part in (trained.extent_mm, trained.spacing_mm)
    )
    return (
        f"{extent} mm in voxels of {spacing} mm, {_format_bounds(trained.slices)} slices "
        f"({plural(trained.scans, 'scan')})"
    )


def _format_bounds(bounds: Bounds) -> str:
    low, high = (f"{bound:.3g}" for bound in bounds)
    return low if low == high else f"{low} to {high}"


def describe_statistics(statistics: FeatureStatistics) -> str:
    """Feature statistics in one line."""
    return (
        f"{plural(statistics.features, 'feature')} of {plural(statistics.scans, 'scan')}, "
        f"{plural(len(statistics.directions), 'direction')}; a distance above {statistics.threshold:.3g} is flagged "
        f"({plural(statistics.held_out, 'other scan')})"
    )
