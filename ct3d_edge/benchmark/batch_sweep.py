"""Batches from memory through the network, with every number of threads and every batch size asked for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.benchmark.single_scan import RunCount
from ct3d_edge.benchmark.workload import describe_environment, keep_partial_result
from ct3d_edge.errors import UsageError
from ct3d_edge.latency.measure import Clock, SampleBuffer, Samples, StageTimer, WallClock, measure_runs
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import WarmupCriterion
from ct3d_edge.latency.system_monitor import SystemMonitor
from ct3d_edge.session.runner import Runner

QUESTION = "Batches of prepared scans from memory to their probabilities, one batch after the other"

STAGE = "infer"


@dataclass(frozen=True)
class SweepConfiguration:
    """One row of a sweep.

    Parameters
    ----------
    threads
        Within an operator on the CPU; as many as usable cores if None.
    batch
        Scans that go through the network at once.
    """

    threads: int | None
    batch: int

    @property
    def name(self) -> str:
        """``threads 2, batch 4``; without the threads where they were left alone."""
        return f"batch {self.batch}" if self.threads is None else f"threads {self.threads}, batch {self.batch}"


def sweep_configurations(threads: Sequence[int], batches: Sequence[int]) -> tuple[SweepConfiguration, ...]:
    """Each number of threads with each batch size; what is not swept stays as it is, a batch 1."""
    return tuple(SweepConfiguration(count, batch) for count in threads or (None,) for batch in batches or (1,))


def measure_sweep(
    open_runner: Callable[[int | None], Runner],
    volumes: NDArray[np.float32],
    wanted: Sequence[SweepConfiguration],
    plan: RunCount,
    *,
    conditions: Mapping[str, Any],
    clock: Clock | None = None,
    on_run: Callable[[], None] = lambda: None,
) -> BenchRecord:
    """Time each configuration in a session of its own, one after the other, each from its steady state on.

    Sessions do not take turns: two that are open share the memory and the cores, whose waiting threads disturb the
    other's. A drift of the machine therefore meets some configurations and not others; the record says when.

    Parameters
    ----------
    open_runner
        Opens a session with so many threads.
    volumes
        ``(N, *contract.shape)`` prepared scans, taken in turn to fill a batch.
    wanted
        What to time.
    plan
        Runs and budget of each configuration.
    conditions
        Scenario and inputs, for the record.

    Raises
    ------
    BrokenOffError
        With the record so far, if a run fails or is interrupted.
    UsageError
        If the provider does not keep to one of the numbers of threads: the same would be measured twice.
    """
    clock = clock or WallClock()
    monitor, parts = SystemMonitor(clock), {entry.name: SampleBuffer() for entry in wanted}
    facts: dict[str, Any] = {**conditions, "configurations": {entry.name: asdict(entry) for entry in wanted}}

    def between_runs() -> None:
        monitor.sample_if_due()
        on_run()

    def record(incomplete: str | None = None) -> BenchRecord:
        monitor.look()
        return _record(parts, facts, monitor, incomplete)

    with keep_partial_result(record):
        for entry in wanted:
            with open_runner(entry.threads) as runner:
                _require_threads(runner, entry.threads)
                facts.setdefault("receipt", runner.run_report.to_dict())
                measure_runs(
                    _work(runner, np.stack(list(islice(cycle(volumes), entry.batch)))),
                    plan.runs,
                    warmup=WarmupCriterion(),
                    until=plan.until,
                    clock=clock,
                    on_run=between_runs,
                    into=parts[entry.name],
                )
    shortfalls = {name: plan.shortfall(taken.samples()) for name, taken in parts.items()}
    return record("; ".join(f"{name}: {text}" for name, text in shortfalls.items() if text) or None)


def _require_threads(runner: Runner, threads: int | None) -> None:
    found = runner.run_report.threads
    if threads is not None and found != threads:
        does = "chooses its threads itself" if found is None else f"runs with {found}"
        raise UsageError(f"threads={threads} cannot be measured: {runner.run_report.actual} {does} here.")


def _work(runner: Runner, batch: NDArray[np.float32]) -> Callable[[int, StageTimer], None]:
    def infer(_: int, timer: StageTimer) -> None:
        runner.infer(batch)
        timer.lap(STAGE)

    return infer


def _record(
    parts: Mapping[str, SampleBuffer], conditions: Mapping[str, Any], monitor: SystemMonitor, incomplete: str | None
) -> BenchRecord:
    samples = {name: taken.samples() for name, taken in parts.items()}
    warmup = {name: taken.warmup[STAGE] for name, taken in samples.items() if taken.warmup}
    counted = {name: taken.counted[STAGE] for name, taken in samples.items() if taken.counted}
    return BenchRecord(
        QUESTION,
        describe_environment(),
        conditions,
        {},
        Samples(warmup, counted),
        arrangement="blocks",
        surroundings=tuple(monitor.seen),
        incomplete=incomplete,
    )
