"""scikit-learn's metrics of a model on scans whose class is known, each with a 95 % interval."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.evaluation.intervals import RESAMPLES, MetricEstimate, Proportion, bootstrap, proportion
from ct3d_edge.progress import Progress, no_progress

BINS = 10
"""Of equal width, as in Guo et al. 2017 and most of what is published with it."""


@dataclass(frozen=True)
class Confusion:
    """How many scans of each class got which prediction; the second class is the positive one."""

    true_negative: int
    false_positive: int
    false_negative: int
    true_positive: int


@dataclass(frozen=True)
class RocCurve:
    """Rates at every threshold that changes them, from (0, 0) to (1, 1).

    Parameters
    ----------
    false_positive_rate, true_positive_rate
        In step with each other.
    thresholds
        From which probability on; None at the start, where nothing is positive.
    """

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    thresholds: tuple[float | None, ...]


@dataclass(frozen=True)
class ReliabilityBin:
    """Scans of similar probability: how many, what was predicted on average, and what share was of the class."""

    scans: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class Metrics:
    """Everything computed from truth, probabilities and predictions.

    Parameters
    ----------
    scans
        How many of each class.
    auc, brier, ece
        Area under the ROC curve, Brier score, expected calibration error.
    log_loss
        Mean negative log likelihood, natural logarithm.
    accuracy, sensitivity, specificity
        At the contract's threshold; sensitivity is that of the second class.
    majority
        Accuracy of always predicting the more frequent class.
    confusion, roc, reliability
        Their parts; bins without a scan are left out.
    resamples, seed
        Of the bootstrap.
    """

    scans: tuple[int, int]
    auc: MetricEstimate
    brier: MetricEstimate
    ece: MetricEstimate
    log_loss: float
    accuracy: Proportion
    sensitivity: Proportion
    specificity: Proportion
    majority: float
    confusion: Confusion
    roc: RocCurve
    reliability: tuple[ReliabilityBin, ...]
    resamples: int
    seed: int


def compute_metrics(
    truth: NDArray[np.int64],
    scores: NDArray[np.float64],
    predicted: NDArray[np.int64],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Metrics:
    """Compute all figures.

    Parameters
    ----------
    truth
        ``(N,)`` class indices; both 0 and 1 must occur.
    scores
        ``(N,)`` probability of the second class.
    predicted
        ``(N,)`` class indices that the model decided on.
    resamples, seed
        Of the bootstrap.
    progress
        Called after each resample.
    """
    import sklearn

    inside = np.clip(scores, 0, 1)  # half precision rounds a little beyond
    counts = confusion(truth, predicted)
    negatives = counts.true_negative + counts.false_positive
    positives = counts.true_positive + counts.false_negative
    # The numbers of every resample are valid: checking them again would take a third of the time.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        estimates = {
            name: bootstrap(
                statistic, truth, inside, resamples=resamples, seed=seed, progress=progress, what=f"Resampling {name}"
            )
            for name, statistic in (("AUC", auc), ("Brier score", brier), ("calibration error", calibration_error))
        }
    return Metrics(
        scans=(negatives, positives),
        auc=estimates["AUC"],
        brier=estimates["Brier score"],
        ece=estimates["calibration error"],
        log_loss=log_loss(truth, inside),
        accuracy=proportion(counts.true_negative + counts.true_positive, len(truth)),
        sensitivity=proportion(counts.true_positive, positives),
        specificity=proportion(counts.true_negative, negatives),
        majority=max(negatives, positives) / len(truth),
        confusion=counts,
        roc=roc_curve(truth, inside),
        reliability=reliability(truth, inside),
        resamples=resamples,
        seed=seed,
    )


def auc(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Area under the ROC curve: how often a scan of the second class scores above one of the first."""
    from sklearn import metrics

    return float(metrics.roc_auc_score(truth, scores))


def brier(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Mean squared difference of probability and truth (Brier 1950)."""
    from sklearn import metrics

    return float(metrics.brier_score_loss(truth, scores))


def log_loss(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Mean negative log likelihood; scikit-learn keeps probabilities off 0 and 1 by the resolution of a float."""
    from sklearn import metrics

    return float(metrics.log_loss(truth, scores, labels=[0, 1]))


def calibration_error(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    """Expected calibration error: by how much predicted and observed shares differ in a bin, averaged over scans.

    Naeini, Cooper, Hauskrecht 2015 (AAAI), here of the second class's probability. With few scans it is never 0,
    even of perfect probabilities: it is biased upward, which the interval corrects only in part.
    """
    bins = reliability(truth, scores)
    gaps = [abs(bin_.predicted - bin_.observed) for bin_ in bins]
    return float(np.average(gaps, weights=[bin_.scans for bin_ in bins]))


def reliability(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> tuple[ReliabilityBin, ...]:
    """Bins of equal width that hold a scan, by rising probability."""
    from sklearn.calibration import calibration_curve

    observed, predicted = calibration_curve(truth, scores, n_bins=BINS)
    # scikit-learn's own rule for what falls where; it does not give the counts.
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], scores))
    rows = zip(counts[counts > 0].tolist(), predicted.tolist(), observed.tolist(), strict=True)
    return tuple(ReliabilityBin(*row) for row in rows)


def confusion(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> Confusion:
    """Count predictions by class."""
    from sklearn import metrics

    return Confusion(*metrics.confusion_matrix(truth, predicted, labels=[0, 1]).ravel().tolist())


def roc_curve(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> RocCurve:
    """ROC curve without points on a straight line between others."""
    from sklearn import metrics

    false, true, thresholds = metrics.roc_curve(truth, scores)
    finite = tuple(value if np.isfinite(value) else None for value in thresholds.tolist())
    return RocCurve(tuple(false.tolist()), tuple(true.tolist()), finite)
