"""Scenario `server`: Poisson arrivals, and the highest rate whose tail latency is within a bound."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ct3d_edge.benchmark.workload import ScanWorkload, describe_environment
from ct3d_edge.latency.load_generator import (
    LoadResult,
    best_load,
    choose_tail_rank,
    find_highest_rate,
    poisson_arrivals,
    run_load,
)
from ct3d_edge.latency.measure import Clock, SampleBuffer, Samples, StageTimer, WallClock, WarmupCriterion, measure_runs
from ct3d_edge.latency.record import BenchRecord, keep_partial_result
from ct3d_edge.latency.statistics import nearest_rank
from ct3d_edge.latency.system_monitor import SystemMonitor
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.session.runner import Runner

QUESTION = "Scans that arrive at random, from their intended arrival to their record"
UNLOADED = "one after the other"
DEFAULT_BOUND_FACTOR = 3.0
"""Default bound, in medians of a scan alone: two more scans in the queue."""

UNLOADED_RUNS = 8


@dataclass(frozen=True)
class ServerPlan:
    """Settings of the measurement.

    Parameters
    ----------
    requests
        Scans at each rate; their number decides whether the bound is for p90, p95 or p99.
    bound_ms
        Latency bound from intended arrival to record; three medians of a scan alone if None.
    rates
        Number of rates to try.
    budget_s
        Seconds after which no further rate is tried.
    seed
        Seed of the arrivals.
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
    progress: Progress = no_progress,
) -> tuple[BenchRecord, list[LoadResult]]:
    """Time scans alone until they are steady, then search the highest rate within the bound.

    One session predicts one scan at a time with all its threads; latencies include the queue.

    Returns
    -------
    record
        Latencies at each rate tried, as blocks, and of scans alone.
    attempts
        The rates in the order in which they were tried.

    Raises
    ------
    PartialResultError
        A run failed or was interrupted; holds the record so far.
    """
    server = _ServerRun(runner, scans, plan, clock or WallClock(), progress)
    with keep_partial_result(server.record):
        service_ms = server.measure_unloaded()
        bound_ms = plan.bound_ms or DEFAULT_BOUND_FACTOR * service_ms
        attempts = server.search(service_ms, bound_ms)
    # If scans alone take longer than the bound, no rate can hold it: one attempt is enough.
    complete = service_ms > bound_ms or len(attempts) >= plan.rates
    spent = f"the time budget was spent after {len(attempts)} of {plan.rates} rates"
    return server.record(None if complete else spent), attempts


class _ServerRun:
    """One session, its queue, and the measurements so far."""

    def __init__(
        self, runner: Runner, scans: Sequence[Path], plan: ServerPlan, clock: Clock, progress: Progress
    ) -> None:
        self._workload, self._plan, self._clock = ScanWorkload(runner, scans), plan, clock
        self._monitor = SystemMonitor(clock)
        self._progress = self._monitor.watch(progress)
        self._unloaded, self._latencies = SampleBuffer(), dict[str, list[float]]()
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
        """Median of a scan with an empty queue, ms."""

        def run_once(number: int, timer: StageTimer) -> None:
            self._predict(number)
            timer.lap(UNLOADED)

        samples = measure_runs(
            run_once,
            UNLOADED_RUNS,
            warmup=WarmupCriterion(),
            clock=self._clock,
            progress=self._progress,
            buffer=self._unloaded,
        )
        return median(samples.total)

    def search(self, service_ms: float, bound_ms: float) -> list[LoadResult]:
        """Try rates below the capacity."""
        capacity = 1000 / service_ms
        attempts = find_highest_rate(
            lambda rate: self._attempt(rate, bound_ms),
            capacity,
            steps=self._plan.rates,
            proceed=lambda: service_ms <= bound_ms and not self._budget_spent(),
        )
        best = best_load(attempts)
        self._facts |= {"bound_ms": bound_ms, "capacity_per_s": capacity, "highest_rate_per_s": best and best.rate}
        return attempts

    def record(self, incomplete: str | None = None) -> BenchRecord:
        """Everything measured so far."""
        unloaded = self._unloaded.samples()
        rates = {name: tuple(latencies) for name, latencies in self._latencies.items()}
        return BenchRecord(
            QUESTION,
            describe_environment(),
            self._facts,
            {},
            Samples(unloaded.warmup, {**unloaded.counted, **rates}),
            arrangement="blocks",
            surroundings=self._monitor.finish(),
            incomplete=incomplete,
        )

    def _attempt(self, rate: float, bound_ms: float) -> LoadResult:
        requests = self._plan.requests
        latencies = self._latencies.setdefault(_name(rate), [])
        run_load(
            self._predict,
            poisson_arrivals(rate, requests, self._plan.seed),
            clock=self._clock,
            latencies=latencies,
            max_late=(bound_ms, requests - nearest_rank(requests, self._rank)),
            progress=self._progress,
        )
        return LoadResult(rate, tuple(latencies), self._rank, bound_ms)

    def _predict(self, number: int) -> None:
        self._workload.predict(number, StageTimer(self._clock))

    def _budget_spent(self) -> bool:
        budget = self._plan.budget_s
        return budget is not None and self._clock.now() - self._began >= budget * 1e9


def _name(rate: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(rate)))
    return f"{rate:.{digits}f} scans a second"
