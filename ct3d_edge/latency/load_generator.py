"""Requests that arrive when they like, not when the server is ready for them.

A latency is counted from the moment at which its request was meant to arrive. Counting from when it got its turn would
leave out the queue, and a stall would be seen by one request instead of by all that came during it ("coordinated
omission", G. Tene, "How NOT to Measure Latency", 2013; the server scenario of MLPerf LoadGen counts alike: Reddi et al.
2020, arXiv 1911.02549).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ct3d_edge.latency.measure import Clock, WallClock
from ct3d_edge.latency.statistics import PERCENTILE_RANKS, Percentile, min_samples, nearest_rank, percentile


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
    draw, moment, moments = random.Random(seed), 0.0, []  # noqa: S311 - arrivals, not secrets
    for _ in range(requests):
        moment += draw.expovariate(1) / rate
        moments.append(moment)
    return tuple(moments)


def run_load(
    work: Callable[[int], object],
    arrivals: Sequence[float],
    *,
    clock: Clock | None = None,
    into: list[float] | None = None,
    hopeless: Callable[[Sequence[float]], bool] = lambda _: False,
    on_request: Callable[[], None] = lambda: None,
) -> list[float]:
    """Serve requests in the order of their arrival, one at a time.

    Parameters
    ----------
    work
        Serves request ``n``.
    arrivals
        Moments in s, from the call on, at which requests are meant to arrive.
    into
        Where latencies are kept as they come in, for a caller that wants them though the work fails.
    hopeless
        Asked after each request, with the latencies so far, whether to give up.
    on_request
        Told after each request.

    Returns
    -------
    list of float
        From intended arrival to answer, in ms.
    """
    clock, latencies = clock or WallClock(), [] if into is None else into
    began = clock.now()
    for number, arrival in enumerate(arrivals):
        intended = began + round(arrival * 1e9)
        clock.wait_until(intended)
        work(number)
        latencies.append((clock.now() - intended) / 1e6)
        on_request()
        if hopeless(latencies):
            break
    return latencies


@dataclass(frozen=True)
class LoadResult:
    """What happened at one rate.

    Parameters
    ----------
    rate
        Requests a second.
    latencies
        In ms, in the order of arrival.
    tail
        The percentile that the bound is for.
    bound
        In ms.
    """

    rate: float
    latencies: tuple[float, ...]
    tail: Percentile
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the bound was kept, by samples enough to say so."""
        return not self.tail.missing and self.tail.value <= self.bound


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


def make_early_stop(requests: int, rank: float, bound: float) -> Callable[[Sequence[float]], bool]:
    """Whether so many latencies are above the bound already that the percentile of all requests will be."""
    allowed = requests - nearest_rank(requests, rank)
    return lambda latencies: sum(latency > bound for latency in latencies) > allowed


def summarize_load(rate: float, latencies: Sequence[float], rank: float, bound: float) -> LoadResult:
    """Judge the latencies taken at a rate."""
    return LoadResult(rate, tuple(latencies), percentile(latencies, rank), bound)


def find_highest_rate(
    attempt: Callable[[float], LoadResult], capacity: float, *, steps: int = 5, go_on: Callable[[], bool] = lambda: True
) -> list[LoadResult]:
    """Look for the highest rate that keeps its bound, by halving the interval in which it must lie.

    Parameters
    ----------
    attempt
        Serves at a rate.
    capacity
        Requests a second that one after the other would be served; at that rate a queue of random arrivals grows
        without end, so all rates tried lie below it.
    steps
        Rates tried; the answer is then known to a 2 ** -steps part of the capacity.
    go_on
        Asked before each attempt but the first; no ends the search.

    Returns
    -------
    list of Load
        All attempts, in order. The answer is the highest rate among those that hold.
    """
    low, high = 0.0, capacity
    attempts: list[LoadResult] = []
    for _ in range(steps):
        if attempts and not go_on():
            break
        attempts.append(attempt((low + high) / 2))
        if attempts[-1].holds:
            low = attempts[-1].rate
        else:
            high = attempts[-1].rate
    return attempts


def best_load(attempts: Sequence[LoadResult]) -> LoadResult | None:
    """The highest rate that kept its bound; None if none did."""
    return max((load for load in attempts if load.holds), key=lambda load: load.rate, default=None)
