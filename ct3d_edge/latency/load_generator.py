"""Requests that arrive at random moments, not when the server is ready for them.

A latency is counted from the moment at which its request was meant to arrive. Counting from when it got its turn would
leave out the queue, and a stall would be seen by one request instead of by all that came during it ("coordinated
omission", G. Tene, "How NOT to Measure Latency", 2013; the server scenario of MLPerf LoadGen counts alike: Reddi et al.
2020, arXiv 1911.02549).
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ct3d_edge.latency.measure import Clock, WallClock
from ct3d_edge.latency.statistics import PERCENTILE_RANKS, Percentile, min_samples, percentile
from ct3d_edge.progress import Progress, no_progress


def poisson_arrivals(rate: float, requests: int, seed: int = 0) -> tuple[float, ...]:
    """Moments in s, from 0 on, of a Poisson process: gaps are exponential and independent.

    The gaps of one seed are the same at every rate but for their scale, so that two rates differ in nothing else.

    Raises
    ------
    ValueError
        If the rate, in requests a second, is not above 0.
    """
    if not rate > 0:
        raise ValueError(f"a rate is above 0, not {rate}")
    generator, moment, moments = random.Random(seed), 0.0, []  # noqa: S311 - arrivals, not secrets
    for _ in range(requests):
        moment += generator.expovariate(1) / rate
        moments.append(moment)
    return tuple(moments)


def run_load(
    work: Callable[[int], object],
    arrivals: Sequence[float],
    *,
    clock: Clock | None = None,
    latencies: list[float] | None = None,
    max_late: tuple[float, int] = (math.inf, 0),
    progress: Progress = no_progress,
) -> list[float]:
    """Serve requests in the order of their arrival, one at a time.

    Parameters
    ----------
    work
        Serves request ``n``.
    arrivals
        Moments in s, from the call on, at which requests are meant to arrive.
    latencies
        Filled as they come in, for a caller that wants them though the work fails.
    max_late
        Ends when more requests than this number took longer than this bound in ms.

    Returns
    -------
    list of float
        From intended arrival to the end of the work, in ms.
    """
    clock, latencies = clock or WallClock(), [] if latencies is None else latencies
    bound, allowed = max_late
    began = clock.now()
    for number, arrival in enumerate(arrivals):
        intended = began + round(arrival * 1e9)
        clock.wait_until(intended)
        work(number)
        latencies.append((clock.now() - intended) / 1e6)
        progress(number + 1, len(arrivals), "Requests")
        if sum(latency > bound for latency in latencies) > allowed:
            break
    return latencies


def choose_tail_rank(requests: int) -> float:
    """The highest of p90, p95, p99 that so many requests are enough for.

    Raises
    ------
    ValueError
        If they are not even enough for p90.
    """
    known = [rank for rank in PERCENTILE_RANKS if 90 <= rank <= 99 and min_samples(rank) <= requests]
    if not known:
        raise ValueError(f"a tail needs {min_samples(90)} requests or more, not {requests}")
    return known[-1]


@dataclass(frozen=True)
class LoadResult:
    """Latencies at one rate.

    Parameters
    ----------
    rate
        Requests a second.
    latencies
        In ms, in the order of arrival.
    rank
        Of the percentile that the bound is for.
    bound
        In ms.
    """

    rate: float
    latencies: tuple[float, ...]
    rank: float
    bound: float

    @property
    def tail(self) -> Percentile:
        """The percentile that the bound is for."""
        return percentile(self.latencies, self.rank)

    @property
    def holds(self) -> bool:
        """Whether the percentile is within the bound, by enough samples."""
        return not self.tail.missing and self.tail.value <= self.bound


def find_highest_rate(
    attempt: Callable[[float], LoadResult],
    capacity: float,
    *,
    steps: int = 5,
    proceed: Callable[[], bool] = lambda: True,
) -> list[LoadResult]:
    """Search the highest rate within its bound, by halving the interval in which it must lie.

    Parameters
    ----------
    attempt
        Serves at a rate.
    capacity
        Requests a second that one after the other would be served; at that rate a queue of random arrivals grows
        without end, so all rates tried lie below it.
    steps
        Rates tried; the result is then known to a 2 ** -steps part of the capacity.
    proceed
        Called before each attempt but the first; False ends the search.

    Returns
    -------
    list of LoadResult
        All attempts, in order; see `best_load`.
    """
    low, high = 0.0, capacity
    attempts: list[LoadResult] = []
    for _ in range(steps):
        if attempts and not proceed():
            break
        attempts.append(attempt((low + high) / 2))
        if attempts[-1].holds:
            low = attempts[-1].rate
        else:
            high = attempts[-1].rate
    return attempts


def best_load(attempts: Sequence[LoadResult]) -> LoadResult | None:
    """The highest rate within its bound; None if there is none."""
    return max((load for load in attempts if load.holds), key=lambda load: load.rate, default=None)
