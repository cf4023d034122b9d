"""One scan at a time, the next as soon as the last is decided."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.benchmark.workload import (
    CLOCKS,
    DEVICE_RESIDENT,
    ScanWorkload,
    describe_environment,
    keep_partial_result,
)
from ct3d_edge.latency.measure import Clock, SampleBuffer, Samples, StageTimer, StopCriterion, WallClock, measure_runs
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import WarmupCriterion
from ct3d_edge.latency.system_monitor import SystemMonitor, SystemSnapshot
from ct3d_edge.session.runner import Runner

QUESTION = "From a scan file to its probability, one scan at a time"


@dataclass(frozen=True)
class RunCount:
    """How much to measure.

    Parameters
    ----------
    runs
        Counted runs; at least so many if a precision is asked for.
    until
        Precision and time budget.
    """

    runs: int
    until: StopCriterion

    def shortfall(self, samples: Samples) -> str | None:
        """Why a measurement that was not interrupted has less than was asked for."""
        if len(samples.total) < self.runs:
            done = len(samples.total)
            return f"the time budget of {self.until.budget_s:g} s was spent after {done} of {self.runs} runs"
        return None


def measure_single(
    runner: Runner,
    scans: Sequence[Path],
    plan: RunCount,
    *,
    once: Mapping[str, float],
    clock: Clock | None = None,
    on_run: Callable[[], None] = lambda: None,
) -> BenchRecord:
    """Find the steady state, then time runs one after the other.

    Parameters
    ----------
    runner, scans
        An open session, and files that it can judge.
    plan
        How much.
    once
        What happened before, in ms.
    on_run
        Told after each run.

    Raises
    ------
    BrokenOffError
        With the record so far, if a run fails or is interrupted.
    """
    clock = clock or WallClock()
    monitor, taken = SystemMonitor(clock), SampleBuffer(beside=(DEVICE_RESIDENT,))
    work: Callable[[int, StageTimer], None] = ScanWorkload(runner, scans)

    def between_runs() -> None:
        monitor.sample_if_due()
        on_run()

    def record(samples: Samples, incomplete: str | None) -> BenchRecord:
        monitor.look()
        return _record(runner, scans, plan, once, samples, tuple(monitor.seen), incomplete)

    with keep_partial_result(lambda reason: record(taken.samples(), reason)):
        measure_runs(
            work, plan.runs, warmup=WarmupCriterion(), until=plan.until, clock=clock, on_run=between_runs, into=taken
        )
    samples = taken.samples()
    return record(samples, plan.shortfall(samples))


def _record(
    runner: Runner,
    scans: Sequence[Path],
    plan: RunCount,
    once: Mapping[str, float],
    samples: Samples,
    seen: tuple[SystemSnapshot, ...],
    incomplete: str | None,
) -> BenchRecord:
    conditions = {
        "scenario": "single",
        "receipt": runner.run_report.to_dict(),
        "scans": [path.name for path in scans],
        "order": "run n takes scan n mod their number",
        "runs_until_steady": samples.steady_after,
        "target_precision": plan.until.precision,
        "budget_s": plan.until.budget_s,
    }
    return BenchRecord(
        QUESTION,
        describe_environment(),
        conditions,
        once,
        samples,
        clocks=CLOCKS,
        surroundings=seen,
        resources={"model file, bytes": len(runner.model.data)},
        incomplete=incomplete,
    )
