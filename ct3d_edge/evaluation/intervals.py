"""How far a figure may be off by the luck of which scans were tested: 95 % intervals."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.evaluation.progress import OnProgress, Resampled, silent

CONFIDENCE = 0.95
RESAMPLES = 2000
"""With 2000 the ends of a 95 % interval rest on 50 resamples each; pROC (Robin et al. 2011) uses as many."""

Statistic = Callable[[NDArray[np.int64], NDArray[np.float64]], float]
"""From ``(N,)`` truth, class indices 0 and 1, and ``(N,)`` probability of the second class."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Share:
    """``count`` of ``total`` with the 95 % interval of Wilson (1927, J. Am. Stat. Assoc. 22:209)."""

    count: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself."""
        return self.count / self.total


def share(count: int, total: int) -> Share:
    """``count`` of ``total``, at least 1, with its interval."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Share(count, total, float(interval.low), float(interval.high))


def bootstrap(
    statistics: Sequence[Statistic],
    truth: NDArray[np.int64],
    scores: NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    on_progress: OnProgress = silent,
) -> tuple[Estimate, ...]:
    """Percentile intervals of several figures on the same resamples.

    Scans are drawn with replacement within each class, so that none is ever empty and the share of the classes, which
    a test set's maker chose, stays (Efron & Tibshirani 1993, chapter 8; Robin et al. 2011, BMC Bioinformatics 12:77).
    """
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(truth == label) for label in (0, 1)]
    samples = np.empty((resamples, len(statistics)))
    for done, row in enumerate(samples, start=1):
        drawn = np.concatenate([rng.choice(scans, len(scans)) for scans in classes])
        row[:] = [statistic(truth[drawn], scores[drawn]) for statistic in statistics]
        on_progress(Resampled(done, resamples))
    tail = 100 * (1 - CONFIDENCE) / 2
    lows, highs = np.percentile(samples, [tail, 100 - tail], axis=0)
    return tuple(
        Estimate(float(statistic(truth, scores)), float(low), float(high))
        for statistic, low, high in zip(statistics, lows, highs, strict=True)
    )
