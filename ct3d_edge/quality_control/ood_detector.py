"""How far a scan's features lie from those of the training scans: probabilistic principal components.

The model is that of Tipping & Bishop (1999, J. R. Stat. Soc. B 61:611): a Gaussian whose covariance has its largest
eigenvalues along a few directions and one variance, the mean of the remaining eigenvalues, along all others. It needs
no inverse of a large matrix, and holds where there are fewer scans than features. That features of other material lie
far from the Gaussian of the training material is what Lee et al. (2018, arXiv 1807.03888) use. Knows no network.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct3d_edge.contract import FeatureStatistics
from ct3d_edge.errors import DatasetError

MAX_DIRECTIONS = 10
"""At most; with ten, phantoms were told from other material as well as with fewer or more (docs/inputs.md)."""

MIN_SCANS = 20, 10
"""Scans to fit on, and others for the threshold, below which neither says much."""

THRESHOLD_QUANTILE = 0.99
"""Of the distances of held-out scans."""

THRESHOLD_MARGIN = 1.25
"""Times that quantile: of a few dozen held-out scans it is hardly more than the largest that happened to be drawn."""

MIN_RELATIVE_STD = 0.01
"""Of the features' root mean square: a direction in which they vary less is taken to vary by that. Files in fewer bits
move features by such parts (docs/inputs.md), and a distance must not be made of rounding."""

SIGNIFICANT_DIGITS = 5
"""That numbers are kept with; distances then differ in the fourth."""


class MahalanobisOOD:
    """Measures distances.

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


def fit_feature_statistics(train_features: ArrayLike, val_features: ArrayLike) -> FeatureStatistics:
    """Describe the features of training scans, and find from which distance on a scan is unlike them.

    Parameters
    ----------
    train_features
        ``(N, C)`` pooled features of training scans.
    val_features
        ``(M, C)`` of scans that the network was not trained on: training scans lie closer than any other will.

    Raises
    ------
    DatasetError
        If there are too few scans, or all have the same features.
    """
    rows, others = (_drop_non_finite_rows(features) for features in (train_features, val_features))
    if len(rows) < MIN_SCANS[0] or len(others) < MIN_SCANS[1]:
        raise DatasetError(
            f"{len(rows)} training and {len(others)} validation scans are too few to say what is unlike them: "
            f"{MIN_SCANS[0]} and {MIN_SCANS[1]} are needed."
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
        raise DatasetError("The network gives all scans the same features: no scan can be found to be unlike them.")
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
