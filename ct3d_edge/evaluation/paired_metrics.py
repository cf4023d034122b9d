"""Two models on the same scans: how their AUC and sensitivity differ, and how often they agree."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.evaluation.intervals import (
    CONFIDENCE,
    RESAMPLES,
    MetricEstimate,
    Proportion,
    bootstrap_scans,
    proportion,
)
from ct3d_edge.progress import Progress, no_progress

DIFFERENCE_LIMITS = (-1.0, 1.0)
"""Of two shares."""

ROUNDING = 1e-9
"""Of a share times the number that it is of."""


@dataclass(frozen=True, eq=False)
class PairedScores:
    """Probabilities of two models for the same scans.

    Parameters
    ----------
    truth
        ``(N,)`` class indices; both 0 and 1 must occur.
    scores
        ``(2, N)`` probability of the second class by the model and by its reference. A scan that the model has no
        prediction for may be -1 or 2, so that it is ranked wrongly.
    specificity
        Of the reference at its threshold.
    """

    truth: NDArray[np.int64]
    scores: NDArray[np.float64]
    specificity: float

    def take(self, scans: NDArray[np.int64]) -> "PairedScores":
        """These scans, in this order."""
        return PairedScores(self.truth[scans], self.scores[:, scans], self.specificity)


@dataclass(frozen=True)
class AucDifference:
    """AUC of a model minus that of its reference.

    Parameters
    ----------
    value, low, high
        The difference, and its 95 % interval from DeLong's variance.
    standard_error
        The root of that variance.
    bootstrap_low, bootstrap_high
        Interval of the paired bootstrap.
    """

    value: float
    low: float
    high: float
    standard_error: float
    bootstrap_low: float
    bootstrap_high: float

    @property
    def least(self) -> float:
        """The lower one of the two lower ends: what a difference is compared with a margin by."""
        return min(self.low, self.bootstrap_low)


@dataclass(frozen=True)
class PairedMetrics:
    """What two models differ in.

    Parameters
    ----------
    scans
        How many of each class.
    auc, reference_auc, auc_difference
        Areas under the ROC curves.
    specificity
        Of the reference at its threshold.
    sensitivity, reference_sensitivity, sensitivity_difference
        Of both at the lowest thresholds on these scans that have at least that specificity.
    agreement, kappa
        Share of scans with the same decision, and Cohen's kappa (1960), which is None if both decide on one class
        only. Scans that one of them has no prediction for do not count here.
    resamples, seed
        Of the bootstrap.
    """

    scans: tuple[int, int]
    auc: float
    reference_auc: float
    auc_difference: AucDifference
    specificity: float
    sensitivity: MetricEstimate
    reference_sensitivity: MetricEstimate
    sensitivity_difference: MetricEstimate
    agreement: Proportion
    kappa: float | None
    resamples: int
    seed: int


def compute_paired_metrics(
    pairs: PairedScores,
    decisions: NDArray[np.int64],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress = no_progress,
) -> PairedMetrics:
    """Compute everything that two models differ in.

    Parameters
    ----------
    decisions
        ``(2, M)`` class indices that both decided on.
    resamples, seed, progress
        As for `bootstrap_scans`.
    """

    def estimate(
        figure: Callable[[PairedScores], float], limits: tuple[float, float], what: str, *, smooth: bool = False
    ) -> MetricEstimate:
        return bootstrap_scans(
            lambda scans: figure(pairs.take(scans)),
            pairs.truth,
            limits=limits,
            smooth=smooth,
            resamples=resamples,
            seed=seed,
            progress=progress,
            what=f"Resampling {what}",
        )

    areas = structural_components(pairs.truth, pairs.scores)[0].mean(axis=1)
    model = estimate(lambda drawn: sensitivities(drawn)[0], (0, 1), "sensitivity")
    reference = estimate(lambda drawn: sensitivities(drawn)[1], (0, 1), "sensitivity")
    counts = np.bincount(pairs.truth, minlength=2)
    return PairedMetrics(
        scans=(int(counts[0]), int(counts[1])),
        auc=float(areas[0]),
        reference_auc=float(areas[1]),
        auc_difference=auc_difference(
            pairs, estimate(_area_difference, DIFFERENCE_LIMITS, "AUC difference", smooth=True)
        ),
        specificity=pairs.specificity,
        sensitivity=model,
        reference_sensitivity=reference,
        sensitivity_difference=estimate(_sensitivity_difference, DIFFERENCE_LIMITS, "sensitivity difference"),
        agreement=proportion(int((decisions[0] == decisions[1]).sum()), decisions.shape[1]),
        kappa=cohen_kappa(decisions),
        resamples=resamples,
        seed=seed,
    )


def structural_components(
    truth: NDArray[np.int64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each scan the share of scans of the other class that it is ranked rightly against; ties count half.

    By midranks (Sun and Xu 2014, IEEE Signal Process. Lett. 21:1389), in N log N steps instead of one for each pair.

    Parameters
    ----------
    truth
        ``(N,)`` class indices; m scans of class 1 and n of class 0.
    scores
        ``(k, N)``, a row a model.

    Returns
    -------
    tuple of ndarray
        ``(k, m)`` of the second class and ``(k, n)`` of the first one; the mean of each row is the AUC.
    """
    from scipy.stats import rankdata

    positive, negative = scores[:, truth == 1], scores[:, truth == 0]
    m, n = positive.shape[1], negative.shape[1]
    ranks = rankdata(np.concatenate([positive, negative], axis=1), axis=1)
    above = (ranks[:, :m] - rankdata(positive, axis=1)) / n
    below = 1 - (ranks[:, m:] - rankdata(negative, axis=1)) / m
    return above, below


def auc_difference(pairs: PairedScores, bootstrap: MetricEstimate) -> AucDifference:
    """The difference with both intervals, from the bootstrap's.

    The variance is that of DeLong, DeLong and Clarke-Pearson 1988 (Biometrics 44:837): for a difference of two areas it
    is that of the differences of their structural components. With a single scan of a class it is not defined, and the
    intervals are -1 to 1. Where both models separate the classes without error it is 0, however few scans there are;
    the interval is then as wide as that of `perfect_area_bound`.
    """
    from scipy.stats import norm

    above, below = structural_components(pairs.truth, pairs.scores)
    (positives, negatives), (model, reference) = (above.shape[1], below.shape[1]), above.mean(axis=1)
    value = float(model - reference)
    if min(positives, negatives) < 2:
        return AucDifference(value, *DIFFERENCE_LIMITS, 1.0, *DIFFERENCE_LIMITS)
    variance = sum(float(np.var(part[0] - part[1], ddof=1)) / part.shape[1] for part in (above, below))
    width = float(norm.ppf((1 + CONFIDENCE) / 2)) * variance**0.5
    if model == reference == 1:
        width = 1 - perfect_area_bound(negatives, positives)
    low, high = max(-1.0, value - width), min(1.0, value + width)
    return AucDifference(value, low, high, variance**0.5, bootstrap.low, bootstrap.high)


def perfect_area_bound(negatives: int, positives: int) -> float:
    """Lower end of the 95 % interval of an AUC for which 1 was found.

    Method 5 of Newcombe 2006 (Stat. Med. 25:559): the area A whose distance to 1 is as many of its own standard errors
    as the interval has, with the variance of Hanley and McNeil 1982 for N = (m + n) / 2 scans a class.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z, half = norm.ppf((1 + CONFIDENCE) / 2), (negatives + positives) / 2 - 1

    def excess(area: float) -> float:
        spread = 1 + half * ((1 - area) / (2 - area) + area / (1 + area))
        return float((1 - area) - z**2 * area * spread / (negatives * positives))

    return float(brentq(excess, 0.0, 1.0))


def sensitivities(pairs: PairedScores) -> tuple[float, float]:
    """Sensitivity of both at one specificity, each at its lowest threshold on these scans that has at least that.

    In a bootstrap the specificity stays and the threshold is chosen again, as in ``ci.se`` of pROC (Robin et al. 2011).
    """
    negative = pairs.truth == 0
    ordered = np.sort(pairs.scores[:, negative], axis=1)
    below = math.ceil(pairs.specificity * ordered.shape[1] - ROUNDING)
    cut = ordered[:, below - 1, None] if below else np.full((2, 1), -np.inf)
    model, reference = (pairs.scores[:, ~negative] > cut).mean(axis=1)
    return float(model), float(reference)


def cohen_kappa(decisions: NDArray[np.int64]) -> float | None:
    """Agreement of two rows of class indices ``(2, M)`` beyond that of chance (Cohen 1960)."""
    from sklearn.metrics import cohen_kappa_score

    if len(np.unique(decisions)) < 2:
        return None
    return float(cohen_kappa_score(decisions[0], decisions[1], labels=[0, 1]))


def _area_difference(pairs: PairedScores) -> float:
    above, _ = structural_components(pairs.truth, pairs.scores)
    model, reference = above.mean(axis=1)
    return float(model - reference)


def _sensitivity_difference(pairs: PairedScores) -> float:
    model, reference = sensitivities(pairs)
    return model - reference
