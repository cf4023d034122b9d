"""Percentiles of latencies, and whether there are enough samples to believe one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

ENOUGH = {50: 1, 90: 64, 99: 662}
"""Samples from which a percentile is known with 99 % confidence (MLPerf LoadGen's early stopping rule). A median is
shown from the first sample on."""


@dataclass(frozen=True)
class Percentile:
    """One percentile of a series.

    Parameters
    ----------
    rank
        50, 90 or 99.
    value
        In the unit of the samples.
    samples
        How many it was taken from.
    """

    rank: int
    value: float
    samples: int

    @property
    def missing(self) -> int:
        """Samples still needed before this percentile can be relied on."""
        return max(0, ENOUGH[self.rank] - self.samples)


def percentile(samples: Sequence[float], rank: int) -> Percentile:
    """The nearest-rank percentile: the smallest sample that at least ``rank`` % of all do not exceed.

    Always a value that was measured, never one between two.

    Raises
    ------
    ValueError
        Without samples.
    """
    if not samples:
        raise ValueError("a percentile needs at least one sample")
    position = max(1, math.ceil(rank / 100 * len(samples)))
    return Percentile(rank, sorted(samples)[position - 1], len(samples))


def summary(samples: Sequence[float]) -> tuple[Percentile, ...]:
    """The 50th, 90th and 99th percentile."""
    return tuple(percentile(samples, rank) for rank in ENOUGH)
