"""Scans that arrive at random: the highest rate at which decisions still come in time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ct3d_edge.benchmark.workload import describe_environment, keep_partial_result, run_scan
from ct3d_edge.latency.load_generator import (
    LoadResult,
    best_load,
    choose_tail_rank,
    find_highest_rate,
    make_early_stop,
    poisson_arrivals,
    run_load,
    summarize_load,
)
from ct3d_edge.latency.measure import Clock, SampleBuffer, Samples, StageTimer, WallClock, measure_runs
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import WarmupCriterion
from ct3d_edge.latency.system_monitor import SystemMonitor
from ct3d_edge.session.runner import Runner

QUESTION = "Scans that arrive at random, from their intended arrival to their probability"
UNLOADED = "one after the other"
DEFAULT_BOUND_FACTOR = 3.0
"""Bound in medians of a scan alone, where none is given: a tail with two more in front of it."""

UNLOADED_RUNS = 8


@dataclass(frozen=True)
class ServerPlan:
    """What to look for.

    Parameters
    ----------
    requests
        Scans at each rate; they decide which of p90, p95, p99 the bound is for.
    bound_ms
        From intended arrival to decision; three medians of a scan alone if None.
    rates
        How many rates to try.
    budget_s
        No further rate is tried after so many seconds.
    seed
        Draws the arrivals.
    """

    requests: int
    bound_ms: float | None = None
    rates: int = 5
    budget_s: float | None = None
    seed: int = 0


def measure_server(
    runner: Runner,
    scans: Sequence[Path],
    plan: ServerPlan,
    *,
    clock: Clock | None = None,
    on_request: Callable[[], None] = lambda: None,
) -> tuple[BenchRecord, list[LoadResult]]:
    """Time scans alone until they are steady, then search the highest rate that keeps the bound.

    One session decides one scan at a time with all its threads; what waits is counted.

    Returns
    -------
    record
        Latencies at each rate tried, as blocks, and of scans alone.
    attempts
        The rates in the order in which they were tried.

    Raises
    ------
    BrokenOffError
        With the record so far, if a run fails or is interrupted.
    """
    server = _ServerRun(runner, scans, plan, clock or WallClock(), on_request)
    with keep_partial_result(server.record):
        service = server.measure_unloaded()
        bound = plan.bound_ms or DEFAULT_BOUND_FACTOR * service
        attempts = server.search(service, bound)
    return server.record(server.shortfall(service, bound, len(attempts))), attempts


class _ServerRun:
    """One session, its queue, and all that was measured so far."""

    def __init__(
        self, runner: Runner, scans: Sequence[Path], plan: ServerPlan, clock: Clock, on_request: Callable[[], None]
    ) -> None:
        self._runner, self._scans, self._plan, self._clock = runner, scans, plan, clock
        self._on_request, self._witness = on_request, SystemMonitor(clock)
        self._alone, self._latencies = SampleBuffer(), dict[str, list[float]]()
        self._began, self._rank = clock.now(), choose_tail_rank(plan.requests)
        self._facts: dict[str, Any] = {
            "scenario": "server",
            "receipt": runner.run_report.to_dict(),
            "scans": [path.name for path in scans],
            "order": "run n takes scan n mod their number",
            "plan": asdict(plan),
            "tail": f"p{self._rank:g}",
        }

    def measure_unloaded(self) -> float:
        """Median of a scan that nothing is in front of, ms."""

        def one(number: int, timer: StageTimer) -> None:
            self._take(number)
            timer.lap(UNLOADED)

        samples = measure_runs(
            one, UNLOADED_RUNS, warmup=WarmupCriterion(), clock=self._clock, on_run=self._between, into=self._alone
        )
        return median(samples.total)

    def search(self, service: float, bound: float) -> list[LoadResult]:
        """Try rates below the capacity; `service` and `bound` in ms."""

        def go_on() -> bool:
            # Where scans alone take longer than the bound, lower rates only take longer to say so.
            return service <= bound and not self._spent()

        attempts = find_highest_rate(
            lambda rate: self._attempt(rate, bound), 1000 / service, steps=self._plan.rates, go_on=go_on
        )
        answer = best_load(attempts)
        self._facts |= {
            "bound_ms": bound,
            "capacity_per_s": 1000 / service,
            "highest_rate_per_s": answer and answer.rate,
        }
        return attempts

    def shortfall(self, service: float, bound: float, done: int) -> str | None:
        """Why fewer rates were tried than planned; None if there is nothing to tell."""
        if service > bound or done >= self._plan.rates:
            return None
        return f"the time budget was spent after {done} of {self._plan.rates} rates"

    def record(self, incomplete: str | None = None) -> BenchRecord:
        """All that was measured so far."""
        self._witness.look()
        alone = self._alone.samples()
        rates = {name: tuple(taken) for name, taken in self._latencies.items()}
        return BenchRecord(
            QUESTION,
            describe_environment(),
            self._facts,
            {},
            Samples(alone.warmup, {**alone.counted, **rates}),
            arrangement="blocks",
            surroundings=tuple(self._witness.seen),
            incomplete=incomplete,
        )

    def _attempt(self, rate: float, bound: float) -> LoadResult:
        taken = self._latencies.setdefault(_name(rate), [])
        arrivals = poisson_arrivals(rate, self._plan.requests, self._plan.seed)
        hopeless = make_early_stop(self._plan.requests, self._rank, bound)
        run_load(self._take, arrivals, clock=self._clock, into=taken, hopeless=hopeless, on_request=self._between)
        return summarize_load(rate, taken, self._rank, bound)

    def _take(self, number: int) -> None:
        run_scan(self._runner, self._scans[number % len(self._scans)], StageTimer(self._clock))

    def _between(self) -> None:
        self._witness.sample_if_due()
        self._on_request()

    def _spent(self) -> bool:
        budget = self._plan.budget_s
        return budget is not None and self._clock.now() - self._began >= budget * 1e9


def _name(rate: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(rate)))
    return f"{rate:.{digits}f} scans a second"
