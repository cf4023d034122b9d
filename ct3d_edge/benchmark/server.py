"""Scans that arrive at random: the highest rate at which decisions still come in time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ct3d_edge.benchmark.breaking_off import keep_what_was_taken
from ct3d_edge.benchmark.environment import environment
from ct3d_edge.benchmark.workload import decide
from ct3d_edge.latency import (
    BenchRecord,
    Clock,
    Load,
    Samples,
    StageTimer,
    Steady,
    Taken,
    WallClock,
    Witness,
    best,
    highest_rate,
    hopeless_for,
    load_of,
    measure,
    poisson_arrivals,
    serve,
    tail_rank,
)
from ct3d_edge.runtime import Runner

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
    clock = clock or WallClock()
    rank, began = tail_rank(plan.requests), clock.now()
    witness, alone = Witness(clock), Taken()
    latencies: dict[str, list[float]] = {}
    facts: dict[str, Any] = {
        "scenario": "server",
        "receipt": runner.receipt.to_dict(),
        "scans": [path.name for path in scans],
        "order": "run n takes scan n mod their number",
        "plan": asdict(plan),
        "tail": f"p{rank:g}",
    }

    def take(number: int) -> None:
        decide(runner, scans[number % len(scans)], StageTimer(clock))

    def between() -> None:
        witness.glance()
        on_request()

    def record(incomplete: str | None = None) -> BenchRecord:
        witness.look()
        return _record(alone, latencies, facts, witness, incomplete)

    def attempt(rate: float) -> Load:
        taken = latencies.setdefault(_name(rate), [])
        arrivals = poisson_arrivals(rate, plan.requests, plan.seed)
        hopeless = hopeless_for(plan.requests, rank, bound)
        serve(take, arrivals, clock=clock, into=taken, hopeless=hopeless, on_request=between)
        return load_of(rate, taken, rank, bound)

    def go_on() -> bool:
        # Where scans alone take longer than the bound, lower rates only take longer to say so.
        if service > bound:
            return False
        return plan.budget_s is None or clock.now() - began < plan.budget_s * 1e9

    def one(number: int, timer: StageTimer) -> None:
        take(number)
        timer.lap(ALONE)

    with keep_what_was_taken(record):
        samples = measure(one, RUNS_ALONE, warmup=Steady(), clock=clock, on_run=between, into=alone)
        service = median(samples.total)
        bound = plan.bound_ms or BOUND_IN_SERVICES * service
        attempts = highest_rate(attempt, 1000 / service, steps=plan.rates, go_on=go_on)
    answer = best(attempts)
    facts |= {"bound_ms": bound, "capacity_per_s": 1000 / service, "highest_rate_per_s": answer and answer.rate}
    done = len(attempts)
    short = (
        f"the time budget was spent after {done} of {plan.rates} rates"
        if service <= bound and done < plan.rates
        else None
    )
    return record(short), attempts


def _name(rate: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(rate)))
    return f"{rate:.{digits}f} scans a second"


def _record(
    alone: Taken,
    latencies: dict[str, list[float]],
    conditions: dict[str, Any],
    witness: Witness,
    incomplete: str | None,
) -> BenchRecord:
    samples = alone.samples()
    return BenchRecord(
        QUESTION,
        environment(),
        conditions,
        {},
        Samples(samples.warmup, {**samples.counted, **{name: tuple(taken) for name, taken in latencies.items()}}),
        arrangement="blocks",
        surroundings=tuple(witness.seen),
        incomplete=incomplete,
    )
