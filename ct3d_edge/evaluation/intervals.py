"""95 % intervals: Wilson's of shares, and the bootstrap over scans for every other figure."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.progress import Progress, no_progress

CONFIDENCE = 0.95
RESAMPLES = 2000
"""With 2000 the ends of a 95 % interval rest on 50 resamples each; pROC (Robin et al. 2011) uses as many."""

DIGITS = 9
"""Of a figure in the bootstrap, so that equal figures tie in whatever order their terms were added."""

Statistic = Callable[[NDArray[np.int64], NDArray[np.float64]], float]
"""From ``(N,)`` truth, class indices 0 and 1, and ``(N,)`` probability of the second class."""

ScanStatistic = Callable[[NDArray[np.int64]], float]
"""From the indices ``(N,)`` of scans, those of the first class first; an index may occur more than once."""


@dataclass(frozen=True)
class MetricEstimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Proportion:
    """``count`` of ``total`` with the 95 % interval of Wilson (1927, J. Am. Stat. Assoc. 22:209)."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself."""
        return self.count / self.total


def proportion(count: int, total: int) -> Proportion:
    """``count`` of ``total``, at least 1, with its interval."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Proportion(count, total, float(interval.low), float(interval.high))


def bootstrap(
    statistic: Statistic,
    truth: NDArray[np.int64],
    scores: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress = no_progress,
    what: str = "Resampling",
) -> MetricEstimate:
    """A figure between 0 and 1 of the scores ``(N,)`` of one model; see `bootstrap_scans`."""
    return bootstrap_scans(
        lambda scans: statistic(truth[scans], scores[scans]),
        truth,
        resamples=resamples,
        seed=seed,
        progress=progress,
        what=what,
    )


def bootstrap_scans(
    statistic: ScanStatistic,
    truth: NDArray[np.int64],
    *,
    limits: tuple[float, float] = (0.0, 1.0),
    smooth: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress = no_progress,
    what: str = "Resampling",
) -> MetricEstimate:
    """A figure with its bias-corrected and accelerated interval, by `scipy.stats.bootstrap`.

    Scans are drawn with replacement within each class, so that no class is empty and the share of the classes, which
    the maker of a test set chose, stays (Robin et al. 2011, BMC Bioinformatics 12:77). A figure of two models gets the
    same scans for both, so that its interval is that of a paired comparison. The interval is that of Efron (1987, J.
    Am. Stat. Assoc. 82:171). Where that is not defined, because all resamples are on one side of the figure, it is the
    percentile interval of the same resamples. So it is for a figure that is not ``smooth``: the jackknife in BCa is not
    valid for quantiles (Efron and Tibshirani 1993, 11.6). With a single scan of a class it is ``limits``.
    """
    from scipy import stats

    classes = [np.flatnonzero(truth == label) for label in (0, 1)]
    value = float(statistic(np.arange(len(truth))))
    if min(map(len, classes)) < 2:
        return MetricEstimate(value, *limits)
    calls = 0

    def compute(*drawn: NDArray[np.generic]) -> float:
        nonlocal calls
        calls += 1
        if calls <= resamples:  # the others are those of the jackknife
            progress(calls, resamples, what)
        return round(statistic(np.concatenate(drawn).astype(np.int64)), DIGITS)  # SciPy may have made them floats

    settings = {"confidence_level": CONFIDENCE, "vectorized": False}
    method = "BCa" if smooth else "percentile"
    rng = np.random.default_rng(seed)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(classes, compute, n_resamples=resamples, method=method, rng=rng, **settings)
    if not np.isfinite(found.confidence_interval).all():
        settings |= {"n_resamples": 0, "bootstrap_result": found}
        found = stats.bootstrap(classes, compute, method="percentile", **settings)
    return MetricEstimate(value, float(found.confidence_interval.low), float(found.confidence_interval.high))
