"""Run something many times, by a clock that can be replaced, and keep every duration."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ct3d_edge.latency.statistics import WarmupCriterion, count_warmup_runs, percentile


class Clock(Protocol):
    """Anything that tells a monotonic time, and can wait."""

    def now(self) -> int:
        """Nanoseconds since some fixed moment."""
        ...

    def wait_until(self, moment: int) -> None:
        """Return when ``now`` would tell ``moment`` or later; at once if it is past."""
        ...


class WallClock:
    """The operating system's monotonic clock of the highest resolution."""

    def now(self) -> int:
        """Nanoseconds since some fixed moment."""
        return time.perf_counter_ns()

    def wait_until(self, moment: int) -> None:
        """Sleep until ``moment``."""
        while (left := moment - self.now()) > 0:
            time.sleep(left / 1e9)


class StageTimer:
    """Splits what happens between its start and ``lap`` calls into named stages.

    Parameters
    ----------
    clock
        Where the time comes from.
    stages
        Stage to its duration in ms; continues what an earlier timer began, if given.
    """

    def __init__(self, clock: Clock, stages: dict[str, float] | None = None) -> None:
        self.stages = {} if stages is None else stages
        self._clock = clock
        self._last = clock.now()

    def lap(self, stage: str) -> None:
        """Everything since the last call (or the start) was ``stage``; a stage may come more than once."""
        now = self._clock.now()
        self.stages[stage] = self.stages.get(stage, 0.0) + (now - self._last) / 1e6
        self._last = now

    def move(self, milliseconds: float, stage: str, to: str) -> None:
        """Give a part of ``stage`` that was measured elsewhere a name of its own."""
        self.stages[stage] -= milliseconds
        self.stages[to] = self.stages.get(to, 0.0) + milliseconds


TimedRun = Callable[[int, StageTimer], None]
"""Does run number ``n`` and calls ``lap`` at the end of each stage."""

WARMUP_BUDGET_SHARE = 0.5
"""Of the budget; what is left must be worth counting."""


@dataclass(frozen=True)
class Samples:
    """Durations in ms, in the order in which they were taken.

    Parameters
    ----------
    warmup
        Stage to the durations of the runs before counting began.
    counted
        Stage to the durations that statistics are made from; nothing is dropped.
    excluded_stages
        Stages that were timed in the same runs but are no part of the total.
    """

    warmup: Mapping[str, tuple[float, ...]]
    counted: Mapping[str, tuple[float, ...]]
    excluded_stages: tuple[str, ...] = ()

    @property
    def total(self) -> tuple[float, ...]:
        """Sum of the stages of each counted run, in ms."""
        return self._total(self.counted)

    @property
    def steady_after(self) -> int | None:
        """Warm-up runs before the level was reached; None if it was not."""
        return count_warmup_runs(self._total(self.warmup))

    def _total(self, taken: Mapping[str, tuple[float, ...]]) -> tuple[float, ...]:
        return tuple(
            map(sum, zip(*(taken[stage] for stage in taken if stage not in self.excluded_stages), strict=True))
        )


@dataclass(frozen=True)
class StopCriterion:
    """When to stop, besides the number of runs.

    Parameters
    ----------
    precision
        Go on after the last run until the median of the total is known this well: half its interval over its value.
    budget_s
        Stop after so many seconds, of which warming up has half, though runs or precision are missing; one run is
        always counted.
    """

    precision: float | None = None
    budget_s: float | None = None


class SampleBuffer:
    """Runs as they come in; what is there stays when the work fails."""

    def __init__(self, beside: tuple[str, ...] = ()) -> None:
        self.warmup: list[dict[str, float]] = []
        self.counted: list[dict[str, float]] = []
        self._beside = beside

    def samples(self) -> Samples:
        """What was taken so far."""
        return Samples(_by_stage(self.warmup), _by_stage(self.counted), self._beside)

    def totals(self, taken: list[dict[str, float]]) -> list[float]:
        """Duration of each run without what was timed beside it, in ms."""
        return [sum(time for stage, time in run.items() if stage not in self._beside) for run in taken]


def measure_runs(
    work: TimedRun,
    runs: int,
    *,
    warmup: int | WarmupCriterion = 0,
    until: StopCriterion | None = None,
    clock: Clock | None = None,
    on_run: Callable[[], None] = lambda: None,
    into: SampleBuffer | None = None,
) -> Samples:
    """Time ``runs`` runs of ``work`` after warm-up runs that are kept apart.

    Parameters
    ----------
    work
        Called with the number of the run and a timer whose laps name the stages.
    runs
        How many are counted; fewer or more if ``until`` says so.
    warmup
        How many runs come before, or how to find that out.
    until
        When to stop earlier or later.
    clock
        The machine's, unless a test brings its own.
    on_run
        Told after each run, warm-ups included.
    into
        Where runs are kept as they come in, for a caller that wants them though the work fails.
    """
    clock, until, taken = clock or WallClock(), until or StopCriterion(), into or SampleBuffer()
    began = clock.now()

    def spent(share: float = 1.0) -> bool:
        return until.budget_s is not None and clock.now() - began >= share * until.budget_s * 1e9

    def run_once(keep: list[dict[str, float]]) -> None:
        timer = StageTimer(clock)
        work(len(taken.warmup) + len(taken.counted), timer)
        keep.append(timer.stages)
        on_run()

    while _needs_warmup(taken, warmup) and not spent(WARMUP_BUDGET_SHARE):
        run_once(taken.warmup)
    while _needs_more_runs(taken, runs, until.precision) and not (spent() and taken.counted):
        run_once(taken.counted)
    return taken.samples()


def _needs_warmup(taken: SampleBuffer, warmup: int | WarmupCriterion) -> bool:
    if isinstance(warmup, int):
        return len(taken.warmup) < warmup
    steady = count_warmup_runs(taken.totals(taken.warmup), warmup.block) is not None
    return not steady and len(taken.warmup) < warmup.limit


def _needs_more_runs(taken: SampleBuffer, runs: int, precision: float | None) -> bool:
    if len(taken.counted) < runs:
        return True
    return precision is not None and percentile(taken.totals(taken.counted), 50).precision > precision


def measure_interleaved(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 1,
    clock: Clock | None = None,
) -> Samples:
    """Time several callables in turn, A B C A B C ..., so that a drift of the machine meets all alike.

    Returns
    -------
    Samples
        With the contestants' names as stages; sample ``n`` of each is from the same round.
    """

    def one_round(_: int, timer: StageTimer) -> None:
        for name, run in contestants.items():
            run()
            timer.lap(name)

    return measure_runs(one_round, rounds, warmup=warmup, clock=clock)


def _by_stage(taken: list[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    stages = taken[0].keys() if taken else ()
    if any(run.keys() != stages for run in taken):
        raise ValueError("every run must have the same stages, or their samples cannot be told apart")
    return {stage: tuple(run[stage] for run in taken) for stage in stages}
