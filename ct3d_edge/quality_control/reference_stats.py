"""What a contract says of the training scans of its model, gathered at the end of a training run."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ct3d_edge.contract import Bounds, Contract, TrainingRange
from ct3d_edge.errors import ContractError, DatasetError, ScanError
from ct3d_edge.quality_control.domain_shift import AcquisitionGeometry
from ct3d_edge.quality_control.ood_detector import fit_feature_statistics
from ct3d_edge.scan.loader import open_scan

PERCENTILES = (1, 99)
"""Not the extremes: one header in other units among a thousand would widen the range to anything."""

MIN_SCANS = 10
"""Scans below which a range says more of chance than of a scanner."""

DIGITS = 4


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
    said = (
        f"training range: {trained.describe()}"
        if trained
        else f"no training range: fewer than {MIN_SCANS} training scans say how large they are"
    )
    if train_features is None or val_features is None:
        none = "no feature statistics: the network has no global average pooling in front of its dense layers"
        return replace(contract, training_range=trained, feature_statistics=None), (said, none)
    try:
        statistics = fit_feature_statistics(train_features, val_features)
    except DatasetError as error:
        return replace(contract, training_range=trained, feature_statistics=None), (said, f"no statistics: {error}")
    except ContractError:  # a network may give features of any scale, and the training run must not be lost for it
        large = f"{float(np.nanmax(np.abs(train_features))):.1e}"
        none = f"no feature statistics: the features reach {large}, and numbers of that size are not for a contract"
        return replace(contract, training_range=trained, feature_statistics=None), (said, none)
    made = replace(contract, training_range=trained, feature_statistics=statistics)
    return made, (said, f"feature statistics: {statistics.describe()}")


def acquisition_range(scans: Iterable[Path]) -> TrainingRange | None:
    """Percentiles of how scans lie, by their headers; None if fewer than ten of them can be opened and say so."""
    found = [lie for scan in scans if (lie := _read_geometry(scan)) is not None]
    if len(found) < MIN_SCANS:
        return None
    return TrainingRange(
        scans=len(found),
        extent_mm=_bounds([lie.extent_mm for lie in found]),
        spacing_mm=_bounds([lie.spacing_mm for lie in found]),
        slices=_percentile_bounds([lie.slices for lie in found]),
    )


def _read_geometry(scan: Path) -> AcquisitionGeometry | None:
    """A scan that is gone by now costs the run nothing: the others say how they lay."""
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
