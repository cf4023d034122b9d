"""Percentiles of latencies with confidence intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

PERCENTILE_RANKS = (50, 90, 95, 99, 99.9)

CONFIDENCE_LEVEL = 0.99
"""Confidence level of every interval, and of `min_samples`."""


@dataclass(frozen=True)
class Percentile:
    """One percentile of a series.

    Parameters
    ----------
    rank
        50, 90, 95, 99 or 99.9.
    value
        In the unit of the samples.
    samples
        Number of samples.
    low, high
        99 % interval; both ends are samples. None where there are too few.
    """

    rank: float
    value: float
    samples: int
    low: float | None
    high: float | None

    @property
    def name(self) -> str:
        """``p50``, ``p99.9``."""
        return f"p{self.rank:g}"

    @property
    def missing(self) -> int:
        """Number of samples that are missing for this percentile."""
        return max(0, min_samples(self.rank) - self.samples)

    def format_interval(self, separator: str = "..") -> str:
        """``1.2..1.4``; ``-`` without an interval."""
        return "-" if self.low is None or self.high is None else f"{self.low:.1f}{separator}{self.high:.1f}"

    @property
    def precision(self) -> float:
        """Half the interval's width as a share of the value; infinite without an interval."""
        if self.low is None or self.high is None or self.value == 0:
            return math.inf
        return (self.high - self.low) / 2 / self.value


@lru_cache
def min_samples(rank: float) -> int:
    """Number of samples that a percentile needs: 64, 130, 662 for p90, p95, p99.

    The least n for which, with 99 % confidence, at least two samples are beyond the percentile: then the second largest
    is an upper bound of it. The early stopping rule of MLPerf LoadGen begins there too (mlcommons/inference,
    loadgen/early_stopping.cc). A median is shown from the first sample.
    """
    if rank <= 50:
        return 1
    below = rank / 100
    samples = 2
    while below**samples + samples * (1 - below) * below ** (samples - 1) > 1 - CONFIDENCE_LEVEL:
        samples += 1
    return samples


def percentile(samples: Sequence[float], rank: float) -> Percentile:
    """The nearest-rank percentile: the smallest sample that at least ``rank`` % of all do not exceed.

    It is always a measured value, never interpolated.

    Raises
    ------
    ValueError
        Without samples.
    """
    if not samples:
        raise ValueError("a percentile needs at least one sample")
    ordered = sorted(samples)
    low, high = confidence_positions(len(ordered), rank)
    return Percentile(
        rank,
        ordered[nearest_rank(len(ordered), rank) - 1],
        len(ordered),
        ordered[low - 1] if low else None,
        ordered[high - 1] if high else None,
    )


def nearest_rank(samples: int, rank: float) -> int:
    """Position, from 1, of a percentile among so many samples in ascending order."""
    # 99.9 / 100 * 1000 is a little more than 999 in floating point.
    return max(1, math.ceil(round(rank * samples / 100, 9)))


@lru_cache(maxsize=4096)
def confidence_positions(samples: int, rank: float) -> tuple[int | None, int | None]:
    """Positions, from 1 in ascending order, of the samples that enclose a percentile with 99 % confidence.

    Of n independent samples, the number not above the true percentile is binomial (n, rank / 100), whatever the
    distribution. The lower end is the highest position that lies above it with a chance of at most 0.5 %, the upper
    end the lowest one that lies below it with such a chance; None where no position does (David & Nagaraja, Order
    Statistics, 3rd edition 2003, section 7.1).
    """
    import numpy as np

    chance, tail, successes = rank / 100, (1 - CONFIDENCE_LEVEL) / 2, np.arange(samples + 1)
    # By logarithms: the factorials of a few hundred samples do not fit in a double.
    log_factorial = np.append(0.0, np.cumsum(np.log(successes[1:])))
    log_mass = log_factorial[-1] - log_factorial - log_factorial[::-1]
    mass = np.exp(log_mass + successes * math.log(chance) + successes[::-1] * math.log1p(-chance))
    above = np.append(np.cumsum(mass[:0:-1])[::-1], 0.0)
    low = int(np.argmax(np.cumsum(mass) >= tail))
    high = int(np.argmax(above <= tail)) + 1
    return low or None, high if high <= samples else None


def standard_percentiles(samples: Sequence[float]) -> tuple[Percentile, ...]:
    """All five percentiles, also those with too few samples: see `Percentile.missing`."""
    return tuple(percentile(samples, rank) for rank in PERCENTILE_RANKS)
