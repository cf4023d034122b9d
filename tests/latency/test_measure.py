from collections.abc import Callable
from typing import Protocol

import numpy as np
import pytest

from ct3d_edge.latency.measure import (
    SampleBuffer,
    Samples,
    StageTimer,
    StopCriterion,
    WallClock,
    WarmupCriterion,
    measure_interleaved,
    measure_runs,
)
from ct3d_edge.latency.statistics import percentile


class Clock(Protocol):
    """What the tests use of the fake clock."""

    def now(self) -> int: ...

    def wait_until(self, moment: int) -> None: ...

    def pass_ms(self, milliseconds: float) -> None: ...

    def taking(self, *milliseconds: float) -> Callable[[], None]: ...


def test_the_machines_clock_never_runs_backwards() -> None:
    clock = WallClock()
    times = [clock.now() for _ in range(100)]
    assert times == sorted(times)
    assert all(isinstance(time, int) for time in times)


def test_the_machines_clock_waits_and_does_not_wait_for_the_past() -> None:
    clock = WallClock()
    moment = clock.now() + 2_000_000
    clock.wait_until(moment)
    assert clock.now() >= moment
    clock.wait_until(moment - 10**18)


def test_a_timer_splits_time_at_its_laps(clock: Clock) -> None:
    timer = StageTimer(clock)
    clock.pass_ms(2.5)
    timer.lap("read")
    timer.lap("nothing")
    clock.pass_ms(0.25)
    timer.lap("infer")
    clock.pass_ms(99)
    assert timer.stages == {"read": 2.5, "nothing": 0, "infer": 0.25}


def test_a_timer_continues_what_another_began(clock: Clock) -> None:
    stages = {"read": 1.0}
    timer = StageTimer(clock, stages)
    clock.pass_ms(3)
    timer.lap("infer")
    assert stages == {"read": 1, "infer": 3}


def two_stages(clock: Clock) -> Callable[[int, StageTimer], None]:
    """Run ``n`` reads for ``n`` ms and infers for ten times as long."""

    def work(number: int, timer: StageTimer) -> None:
        clock.pass_ms(number)
        timer.lap("read")
        clock.pass_ms(10 * number)
        timer.lap("infer")

    return work


def test_every_run_is_kept_in_order_and_warmups_apart(clock: Clock) -> None:
    samples = measure_runs(two_stages(clock), runs=3, warmup=2, clock=clock)
    assert samples == Samples(
        warmup={"read": (0, 1), "infer": (0, 10)}, counted={"read": (2, 3, 4), "infer": (20, 30, 40)}
    )
    assert samples.total == (22, 33, 44)


def test_without_warmups_there_are_none(clock: Clock) -> None:
    assert measure_runs(two_stages(clock), runs=1, clock=clock).warmup == {}


def test_without_runs_there_is_nothing(clock: Clock) -> None:
    samples = measure_runs(two_stages(clock), runs=0, warmup=1, clock=clock)
    assert samples.counted == {}
    assert samples.total == ()


def test_time_between_runs_does_not_count(clock: Clock) -> None:
    samples = measure_runs(two_stages(clock), runs=2, clock=clock, progress=lambda *_: clock.pass_ms(1000))
    assert samples.total == (0, 11)


def test_progress_counts_warmups_apart(clock: Clock) -> None:
    steps: list[tuple[int, int | None, str]] = []
    work, until = infer_for(clock, 100, 104), StopCriterion(precision=0.9)
    measure_runs(work, runs=2, warmup=1, clock=clock, progress=lambda *step: steps.append(step))
    assert steps == [(1, None, "Warm-up runs"), (1, 2, "Runs"), (2, 2, "Runs")]
    measure_runs(work, runs=8, until=until, clock=clock, progress=lambda *step: steps.append(step))
    assert steps[-1] == (8, None, "Runs"), "how many a precision takes is not known"


def test_an_error_in_the_work_is_not_hidden(clock: Clock) -> None:
    def fail(number: int, _: StageTimer) -> None:
        raise ZeroDivisionError(number)

    with pytest.raises(ZeroDivisionError):
        measure_runs(fail, runs=1, clock=clock)


def test_contestants_take_turns(clock: Clock) -> None:
    calls: list[str] = []
    measure_interleaved({name: lambda name=name: calls.append(name) for name in "ABC"}, 2, warmup=1, clock=clock)  # type: ignore[misc]
    assert calls == list("ABCABCABC")


def test_samples_of_one_round_stand_in_the_same_place(clock: Clock) -> None:
    contestants = {"A": clock.taking(100, 1, 2, 3), "B": clock.taking(200, 10, 20, 30)}
    samples = measure_interleaved(contestants, 3, warmup=1, clock=clock)
    assert samples.counted == {"A": (1, 2, 3), "B": (10, 20, 30)}
    assert samples.warmup == {"A": (100,), "B": (200,)}


def test_a_drift_of_the_machine_meets_all_alike(clock: Clock) -> None:
    """Every call is slower than the one before it: blocks would call B the slower, turns do not."""
    slower = iter(range(1, 1000))

    def work() -> None:
        clock.pass_ms(next(slower))

    counted = measure_interleaved({"A": work, "B": work}, 50, warmup=0, clock=clock).counted
    assert sum(counted["B"]) - sum(counted["A"]) == 50


def test_one_warmup_round_is_the_default(clock: Clock) -> None:
    samples = measure_interleaved({"A": clock.taking(5, 1)}, 1, clock=clock)
    assert (samples.warmup, samples.counted) == ({"A": (5,)}, {"A": (1,)})


def test_the_machines_own_clock_is_the_default() -> None:
    samples = measure_runs(lambda _, timer: timer.lap("work"), runs=3)
    assert len(samples.counted["work"]) == 3
    assert min(samples.counted["work"]) >= 0


def test_a_stage_that_comes_twice_is_added_up(clock: Clock) -> None:
    timer = StageTimer(clock)
    for milliseconds in (1, 2):
        clock.pass_ms(milliseconds)
        timer.lap("read")
    assert timer.stages == {"read": 3}


def test_runs_of_different_stages_are_refused(clock: Clock) -> None:
    def work(number: int, timer: StageTimer) -> None:
        timer.lap("read" if number else "infer")

    with pytest.raises(ValueError, match="the same stages"):
        measure_runs(work, 2, clock=clock)


def test_parts_of_a_stage_can_have_names_of_their_own(clock: Clock) -> None:
    timer = StageTimer(clock)
    clock.pass_ms(10)
    timer.lap("record", {"read": 7, "infer": 2})
    assert timer.stages == {"read": 7, "infer": 2, "record": 1}
    assert list(timer.stages) == ["read", "infer", "record"]


def infer_for(clock: Clock, *milliseconds: float) -> Callable[[int, StageTimer], None]:
    """Runs that take these times, and the last of them from then on."""

    def work(number: int, timer: StageTimer) -> None:
        clock.pass_ms(milliseconds[min(number, len(milliseconds) - 1)])
        timer.lap("infer")

    return work


def test_warming_up_ends_where_the_level_begins(clock: Clock) -> None:
    samples = measure_runs(infer_for(clock, 90, 50, 20, 10), 4, warmup=WarmupCriterion(block=2, limit=30), clock=clock)
    assert samples.warmup == {"infer": (90, 50, 20, 10, 10, 10, 10)}
    assert samples.counted == {"infer": (10,) * 4}
    assert measure_runs(infer_for(clock, 90, 50, 20, 10), 1, warmup=WarmupCriterion(), clock=clock).steady_after == 3


def test_a_level_that_is_not_found_ends_warming_up_at_its_limit(clock: Clock) -> None:
    samples = measure_runs(two_stages(clock), 2, warmup=WarmupCriterion(block=2, limit=9), clock=clock)
    assert len(samples.warmup["read"]) == 9
    assert samples.steady_after is None


def test_runs_go_on_until_the_median_is_known_well_enough(clock: Clock) -> None:
    work = infer_for(clock, *[100, 104] * 200)
    fixed = measure_runs(work, 8, clock=clock)
    precise = measure_runs(work, 8, until=StopCriterion(precision=0.021), clock=clock)
    assert len(fixed.total) == 8
    assert len(precise.total) == 8, "half of 4 ms is less than 2.1 % of 100 ms"
    noisy = infer_for(clock, *np.random.default_rng(0).exponential(100, 3000))
    known = [
        measure_runs(noisy, 8, until=StopCriterion(precision=precision), clock=clock).total for precision in (0.4, 0.2)
    ]
    assert 8 < len(known[0]) < len(known[1]) < 3000
    assert percentile(known[1], 50).precision <= 0.2 < percentile(known[1][:-1], 50).precision


def test_the_budget_ends_what_has_no_end(clock: Clock) -> None:
    noisy = infer_for(clock, *[10, 1000] * 500)
    samples = measure_runs(noisy, 8, until=StopCriterion(precision=1e-6, budget_s=20), clock=clock)
    assert 20_000 <= sum(samples.total) < 22_000


def test_a_spent_budget_leaves_one_run(clock: Clock) -> None:
    samples = measure_runs(
        infer_for(clock, 5000), 50, warmup=WarmupCriterion(), until=StopCriterion(budget_s=7), clock=clock
    )
    assert (samples.warmup, samples.counted) == ({"infer": (5000,)}, {"infer": (5000,)})


def test_warming_up_has_half_of_the_budget(clock: Clock) -> None:
    samples = measure_runs(
        two_stages(clock), 50, warmup=WarmupCriterion(), until=StopCriterion(budget_s=2), clock=clock
    )
    assert 1000 <= sum(map(sum, samples.warmup.values())) < 1200
    assert 2000 <= sum(map(sum, (*samples.warmup.values(), *samples.counted.values()))) < 2400


def test_an_excluded_stage_is_no_part_of_the_total(clock: Clock) -> None:
    def work(number: int, timer: StageTimer) -> None:
        two_stages(clock)(number, timer)
        clock.pass_ms(7)
        timer.lap("again")

    samples = measure_runs(work, 3, clock=clock, buffer=SampleBuffer(excluded_stages=("again",)))
    assert (samples.counted["again"], samples.total) == ((7, 7, 7), (0, 11, 22))


def test_runs_before_a_failure_are_kept(clock: Clock) -> None:
    buffer = SampleBuffer()

    def work(number: int, timer: StageTimer) -> None:
        timer.lap("read")
        if number == 3:
            raise MemoryError
        timer.lap("infer")

    with pytest.raises(MemoryError):
        measure_runs(work, 10, warmup=1, clock=clock, buffer=buffer)
    assert buffer.samples() == Samples({"read": (0,), "infer": (0,)}, {"read": (0, 0), "infer": (0, 0)})
