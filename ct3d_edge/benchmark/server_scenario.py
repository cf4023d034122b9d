"""Scans that arrive at random: the highest rate at which decisions still come in time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ct3d_edge.benchmark.workload import decide, environment, keep_what_was_taken
from ct3d_edge.latency.load_generator import (
    Load,
    best,
    highest_rate,
    hopeless_for,
    load_of,
    poisson_arrivals,
    serve,
    tail_rank,
)
from ct3d_edge.latency.measure import Clock, Samples, StageTimer, Taken, WallClock, measure
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import Steady
from ct3d_edge.latency.system_monitor import Witness
from ct3d_edge.session.runner import Runner

QUESTION = "Scans that arrive at random, from their intended arrival to their probability"
ALONE = "one after the other"
BOUND_IN_SERVICES = 3.0
"""Bound in medians of a scan alone, where none is given: a tail with two more in front of it."""

RUNS_ALONE = 8


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
) -> tuple[BenchRecord, list[Load]]:
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
    server = _Server(runner, scans, plan, clock or WallClock(), on_request)
    with keep_what_was_taken(server.record):
        service = server.time_alone()
        bound = plan.bound_ms or BOUND_IN_SERVICES * service
        attempts = server.search(service, bound)
    return server.record(server.shortfall(service, bound, len(attempts))), attempts


class _Server:
    """One session, its queue, and all that was measured so far."""

    def __init__(
        self, runner: Runner, scans: Sequence[Path], plan: ServerPlan, clock: Clock, on_request: Callable[[], None]
    ) -> None:
        self._runner, self._scans, self._plan, self._clock = runner, scans, plan, clock
        self._on_request, self._witness = on_request, Witness(clock)
        self._alone, self._latencies = Taken(), dict[str, list[float]]()
        self._began, self._rank = clock.now(), tail_rank(plan.requests)
        self._facts: dict[str, Any] = {
            "scenario": "server",
            "receipt": runner.receipt.to_dict(),
            "scans": [path.name for path in scans],
            "order": "run n takes scan n mod their number",
            "plan": asdict(plan),
            "tail": f"p{self._rank:g}",
        }

    def time_alone(self) -> float:
        """Median of a scan that nothing is in front of, ms."""

        def one(number: int, timer: StageTimer) -> None:
            self._take(number)
            timer.lap(ALONE)

        samples = measure(one, RUNS_ALONE, warmup=Steady(), clock=self._clock, on_run=self._between, into=self._alone)
        return median(samples.total)

    def search(self, service: float, bound: float) -> list[Load]:
        """Try rates below the capacity; `service` and `bound` in ms."""

        def go_on() -> bool:
            # Where scans alone take longer than the bound, lower rates only take longer to say so.
            return service <= bound and not self._spent()

        attempts = highest_rate(
            lambda rate: self._attempt(rate, bound), 1000 / service, steps=self._plan.rates, go_on=go_on
        )
        answer = best(attempts)
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
            environment(),
            self._facts,
            {},
            Samples(alone.warmup, {**alone.counted, **rates}),
            arrangement="blocks",
            surroundings=tuple(self._witness.seen),
            incomplete=incomplete,
        )

    def _attempt(self, rate: float, bound: float) -> Load:
        taken = self._latencies.setdefault(_name(rate), [])
        arrivals = poisson_arrivals(rate, self._plan.requests, self._plan.seed)
        hopeless = hopeless_for(self._plan.requests, self._rank, bound)
        serve(self._take, arrivals, clock=self._clock, into=taken, hopeless=hopeless, on_request=self._between)
        return load_of(rate, taken, self._rank, bound)

    def _take(self, number: int) -> None:
        decide(self._runner, self._scans[number % len(self._scans)], StageTimer(self._clock))

    def _between(self) -> None:
        self._witness.glance()
        self._on_request()

    def _spent(self) -> bool:
        budget = self._plan.budget_s
        return budget is not None and self._clock.now() - self._began >= budget * 1e9


def _name(rate: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(rate)))
    return f"{rate:.{digits}f} scans a second"
