"""What contracts say of training scans: a range, and statistics of features."""

from typing import Any

import numpy as np

from ct3d_edge.contract import FeatureStatistics, TrainingRange
from ct3d_edge.quality_control.reference_stats import fit_feature_statistics

RANGE = TrainingRange(
    scans=40,
    extent_mm=((300.0, 400.0), (280.0, 400.0), (250.0, 340.0)),
    spacing_mm=((4.0, 6.0), (4.0, 6.0), (8.0, 9.0)),
    slices=(28.0, 40.0),
)


def drawn(scans: int, size: int, seed: int = 0, **changes: Any) -> Any:
    """``(scans, size)`` features: a few directions in which they vary, around a mean, with noise."""
    directions = np.random.default_rng(99).normal(0, 1, (2, size))
    draw = np.random.default_rng(seed)
    return draw.normal(0, 3, (scans, 2)) @ directions + 5 + draw.normal(0, changes.get("noise", 0.5), (scans, size))


def statistics(size: int = 12) -> FeatureStatistics:
    """Fitted to `drawn` features."""
    return fit_feature_statistics(drawn(60, size), drawn(30, size, seed=1))
