"""Run something many times and keep every duration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ct3d_edge.latency.clock import Clock, StageTimer, WallClock

Work = Callable[[int, StageTimer], None]
"""Does run number ``n`` and calls ``lap`` at the end of each stage."""


@dataclass(frozen=True)
class Samples:
    """Durations in ms, in the order in which they were taken.

    Parameters
    ----------
    warmup
        Stage to the durations of the runs before counting began.
    counted
        Stage to the durations that statistics are made from; nothing is dropped.
    """

    warmup: Mapping[str, tuple[float, ...]]
    counted: Mapping[str, tuple[float, ...]]

    @property
    def total(self) -> tuple[float, ...]:
        """Sum of the stages of each counted run, in ms."""
        return tuple(map(sum, zip(*self.counted.values(), strict=True)))


def measure(
    work: Work,
    runs: int,
    *,
    warmup: int = 0,
    clock: Clock | None = None,
    on_run: Callable[[], None] = lambda: None,
) -> Samples:
    """Time ``runs`` runs of ``work`` after ``warmup`` ones that are kept apart.

    Parameters
    ----------
    work
        Called with the number of the run and a timer whose laps name the stages.
    runs, warmup
        How many.
    clock
        The machine's, unless a test brings its own.
    on_run
        Told after each run, warm-ups included.
    """
    clock = clock or WallClock()
    taken: list[dict[str, float]] = []
    for number in range(warmup + runs):
        timer = StageTimer(clock)
        work(number, timer)
        taken.append(timer.stages)
        on_run()
    return Samples(_by_stage(taken[:warmup]), _by_stage(taken[warmup:]))


def interleave(
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

    return measure(one_round, rounds, warmup=warmup, clock=clock)


def _by_stage(taken: list[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    stages = taken[0].keys() if taken else ()
    if any(run.keys() != stages for run in taken):
        raise ValueError("every run must have the same stages, or their samples cannot be told apart")
    return {stage: tuple(run[stage] for run in taken) for stage in stages}
