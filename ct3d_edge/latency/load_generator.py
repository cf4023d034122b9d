"""Load generator: requests with Poisson arrivals, independent of whether the server is ready.

A latency is measured from the intended arrival of its request. Measuring from the start of its processing would leave
out the queue, and a stall would delay one request instead of all that arrive during it ("coordinated omission",
G. Tene, "How NOT to Measure Latency", 2013). The server scenario of MLPerf LoadGen measures in the same way (Reddi et
al. 2020, arXiv 1911.02549).
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ct3d_edge.latency.measure import Clock, WallClock
from ct3d_edge.latency.statistics import PERCENTILE_RANKS, Percentile, min_samples, percentile
from ct3d_edge.progress import Progress, no_progress


def poisson_arrivals(rate: float, requests: int, seed: int = 0) -> tuple[float, ...]:
    """Arrival times in s, from 0, of a Poisson process: intervals are exponential and independent.

    Intervals of one seed are the same at every rate except for their scale, so two rates differ in nothing else.

    Raises
    ------
    ValueError
        If the rate, in requests per second, is not above 0.
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
        Intended arrival times in s, from the start of the call.
    latencies
        List that is filled during the run, for a caller that needs it when the work fails.
    max_late
        A bound in ms and a number of requests: the run ends when more requests exceed the bound.

    Returns
    -------
    list of float
        Latencies from intended arrival to the end of the work, in ms.
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
    """The highest of p90, p95, p99 for which the number of requests is sufficient.

    Raises
    ------
    ValueError
        If it is not sufficient for p90.
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
        Rank of the percentile that has the bound.
    bound
        In ms.
    """

    rate: float
    latencies: tuple[float, ...]
    rank: float
    bound: float

    @property
    def tail(self) -> Percentile:
        """The percentile that has the bound."""
        return percentile(self.latencies, self.rank)

    @property
    def holds(self) -> bool:
        """Whether the percentile is within the bound, with enough samples."""
        return not self.tail.missing and self.tail.value <= self.bound


def find_highest_rate(
    attempt: Callable[[float], LoadResult],
    capacity: float,
    *,
    steps: int = 5,
    proceed: Callable[[], bool] = lambda: True,
) -> list[LoadResult]:
    """Search the highest rate within its bound by bisection.

    Parameters
    ----------
    attempt
        Serves at a rate.
    capacity
        Requests per second that are served one after the other. At that rate the queue of random arrivals grows
        without limit, so only lower rates are tried.
    steps
        Number of rates tried; the resolution is 2 ** -steps of the capacity.
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
