"""Time repeated runs after a warm-up, with a replaceable clock; every duration is recorded."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from ct3d_edge.latency.statistics import percentile
from ct3d_edge.progress import Progress, no_progress


class Clock(Protocol):
    """A monotonic clock that can wait."""

    def now(self) -> int:
        """Nanoseconds since a fixed moment."""
        ...

    def wait_until(self, moment: int) -> None:
        """Return when ``now`` is ``moment`` or later; at once if it is past."""
        ...


class WallClock:
    """The operating system's monotonic clock of the highest resolution."""

    def now(self) -> int:
        """Nanoseconds since a fixed moment."""
        return time.perf_counter_ns()

    def wait_until(self, moment: int) -> None:
        """Sleep until ``moment``."""
        while (left := moment - self.now()) > 0:
            time.sleep(left / 1e9)


class StageTimer:
    """Divides the time since its start into named stages.

    Parameters
    ----------
    clock
        Source of the time.
    stages
        Duration in ms by stage; continues those of an earlier timer, if given.
    """

    def __init__(self, clock: Clock, stages: dict[str, float] | None = None) -> None:
        self.stages = {} if stages is None else stages
        self._clock = clock
        self._last = clock.now()

    def lap(self, stage: str, parts: Mapping[str, float] | None = None) -> None:
        """Assign the time since the last call (or the start) to ``stage``, except ``parts`` with names of their own.

        Parameters
        ----------
        stage
            May occur more than once; its durations are added up.
        parts
            Duration in ms by stage, measured elsewhere within the same time.
        """
        now = self._clock.now()
        parts = {**(parts or {})}
        parts[stage] = (now - self._last) / 1e6 - sum(parts.values())
        for name, milliseconds in parts.items():
            self.stages[name] = self.stages.get(name, 0.0) + milliseconds
        self._last = now


@dataclass(frozen=True)
class WarmupCriterion:
    """Warm up until two successive blocks of runs are on one level.

    Parameters
    ----------
    block
        Runs in a block.
    limit
        Warm-up runs after which counting begins even without a steady level.
    """

    block: int = 5
    limit: int = 50


def count_warmup_runs(durations: Sequence[float], block: int = WarmupCriterion.block) -> int | None:
    """Number of runs before the first two successive blocks on one level; None if there are no such blocks.

    Two blocks are on one level if each one's median lies within the other's range. That needs no assumption about the
    distribution or the size of its noise: of two blocks of five from one distribution it holds in 5 cases of 7, and a
    change larger than the noise never passes. A change smaller than the noise does; drift of the counted runs shows it.

    A median does not see one or two slow runs of five: those at the start of the first block that are slower than all
    of the second are counted as well.
    """
    for start in range(len(durations) - 2 * block + 1):
        middle = start + block
        first, second = durations[start:middle], durations[middle : middle + block]
        if _same_level(first, second):
            return start + next((n for n, duration in enumerate(first) if duration <= max(second)), block)
    return None


def _same_level(one: Sequence[float], other: Sequence[float]) -> bool:
    return min(one) <= median(other) <= max(one) and min(other) <= median(one) <= max(other)


TimedRun = Callable[[int, StageTimer], object]
"""Does run number ``n``, and calls ``lap`` at the end of each stage."""

WARMUP_BUDGET_SHARE = 0.5
"""Share of the time limit after which the warm-up ends, so that time is left for counted runs."""


@dataclass(frozen=True)
class Samples:
    """Durations in ms, in the order in which they were measured.

    Parameters
    ----------
    warmup
        Durations of warm-up runs by stage.
    counted
        Durations of counted runs by stage, from which statistics are computed; nothing is dropped.
    excluded_stages
        Stages that were timed in the same runs and are not part of the total.
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
        """Number of warm-up runs before the steady level; None if it was not reached."""
        return count_warmup_runs(self._total(self.warmup))

    def _total(self, runs: Mapping[str, tuple[float, ...]]) -> tuple[float, ...]:
        stages = (durations for stage, durations in runs.items() if stage not in self.excluded_stages)
        return tuple(map(sum, zip(*stages, strict=True)))


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
    """Durations of the runs so far; available when the work fails.

    Parameters
    ----------
    excluded_stages
        See `Samples`.
    """

    def __init__(self, excluded_stages: tuple[str, ...] = ()) -> None:
        self.warmup: list[dict[str, float]] = []
        self.counted: list[dict[str, float]] = []
        self._excluded = excluded_stages

    def samples(self) -> Samples:
        """The runs so far."""
        return Samples(_by_stage(self.warmup), _by_stage(self.counted), self._excluded)

    def totals(self, runs: list[dict[str, float]]) -> list[float]:
        """Duration of each run without excluded stages, in ms."""
        return [sum(time for stage, time in run.items() if stage not in self._excluded) for run in runs]


def measure_runs(
    work: TimedRun,
    runs: int,
    *,
    warmup: int | WarmupCriterion = 0,
    until: StopCriterion | None = None,
    clock: Clock | None = None,
    progress: Progress = no_progress,
    buffer: SampleBuffer | None = None,
) -> Samples:
    """Time ``runs`` runs of ``work`` after warm-up runs that are not counted.

    Parameters
    ----------
    work
        Called with the number of the run and a timer whose laps name the stages.
    runs
        Number of counted runs; fewer or more with ``until``.
    warmup
        Number of warm-up runs, or the criterion that ends the warm-up.
    until
        Criterion to stop earlier or later.
    clock
        The clock of the machine if None.
    progress
        Called after each run, also of the warm-up.
    buffer
        Receives the runs, for a caller that needs them when the work fails.
    """
    clock, until, buffer = clock or WallClock(), until or StopCriterion(), buffer or SampleBuffer()
    began = clock.now()

    def budget_spent(share: float = 1.0) -> bool:
        return until.budget_s is not None and clock.now() - began >= share * until.budget_s * 1e9

    def run_once(finished: list[dict[str, float]], total: int | None, what: str) -> None:
        timer = StageTimer(clock)
        work(len(buffer.warmup) + len(buffer.counted), timer)
        finished.append(timer.stages)
        progress(len(finished), total, what)

    while _needs_warmup(buffer, warmup) and not budget_spent(WARMUP_BUDGET_SHARE):
        run_once(buffer.warmup, None, "Warm-up runs")
    while _needs_more_runs(buffer, runs, until.precision) and not (budget_spent() and buffer.counted):
        run_once(buffer.counted, None if until.precision else runs, "Runs")
    return buffer.samples()


def _needs_warmup(buffer: SampleBuffer, warmup: int | WarmupCriterion) -> bool:
    if isinstance(warmup, int):
        return len(buffer.warmup) < warmup
    steady = count_warmup_runs(buffer.totals(buffer.warmup), warmup.block) is not None
    return not steady and len(buffer.warmup) < warmup.limit


def _needs_more_runs(buffer: SampleBuffer, runs: int, precision: float | None) -> bool:
    if len(buffer.counted) < runs:
        return True
    return precision is not None and percentile(buffer.totals(buffer.counted), 50).precision > precision


def measure_interleaved(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warmup: int = 1,
    clock: Clock | None = None,
) -> Samples:
    """Time several callables in turn, A B C A B C ..., so that a drift of the machine affects all of them equally.

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


def _by_stage(runs: list[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    stages = runs[0].keys() if runs else ()
    if any(run.keys() != stages for run in runs):
        raise ValueError("every run must have the same stages, or their samples cannot be assigned")
    return {stage: tuple(run[stage] for run in runs) for stage in stages}
