"""Scenario `single`: one scan after the other, from file to record. Sweep: batches from memory, per configuration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.benchmark.workload import STAGES, ScanWorkload, describe_environment, prepare_network_input
from ct3d_edge.errors import UsageError
from ct3d_edge.latency.measure import (
    Clock,
    SampleBuffer,
    Samples,
    StageTimer,
    StopCriterion,
    TimedRun,
    WallClock,
    WarmupCriterion,
    measure_runs,
)
from ct3d_edge.latency.record import BenchRecord, keep_partial_result
from ct3d_edge.latency.system_monitor import SystemMonitor
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.session.runner import Runner

SINGLE_QUESTION = "From a scan file to its record, one scan at a time"
SWEEP_QUESTION = "Batches of prepared scans from memory to their probabilities, one batch after the other"

DEVICE_RESIDENT = "device-resident run"
"""The network alone, with input and output on the device; timed after each scan, and not part of its time."""

CLOCKS = {
    DEVICE_RESIDENT: (DEVICE_RESIDENT,),
    "run + copies": ("infer",),
    "+ preprocessing": ("preprocess", "infer"),
    "file to decision": STAGES,
}
"""Stages of which each clock is the sum; each clock includes the one before."""

BATCH_STAGE = "infer"


@dataclass(frozen=True)
class RunCount:
    """Number of runs of a measurement, and when it ends.

    Parameters
    ----------
    runs
        Counted runs; the least number if there is a precision.
    until
        Precision and time limit.
    """

    runs: int
    until: StopCriterion

    def measure(self, work: TimedRun, buffer: SampleBuffer, clock: Clock, progress: Progress) -> None:
        """Find the steady state, then time the counted runs."""
        measure_runs(
            work,
            self.runs,
            warmup=WarmupCriterion(),
            until=self.until,
            clock=clock,
            progress=progress,
            buffer=buffer,
        )

    def shortfall(self, samples: Samples) -> str | None:
        """Why a measurement that was not interrupted has fewer runs than requested."""
        done = len(samples.total)
        if done >= self.runs:
            return None
        return f"the time budget of {self.until.budget_s:g} s was spent after {done} of {self.runs} runs"


def measure_single(
    runner: Runner,
    scans: Sequence[Path],
    plan: RunCount,
    *,
    once: Mapping[str, float],
    clock: Clock | None = None,
    progress: Progress = no_progress,
) -> BenchRecord:
    """Find the steady state, then time runs one after the other.

    Parameters
    ----------
    runner, scans
        An open session, and scans that it can predict.
    plan
        Number of runs.
    once
        Durations in ms of what happened once, before.

    Raises
    ------
    PartialResultError
        A run failed or was interrupted; holds the record so far.
    """
    clock = clock or WallClock()
    monitor, buffer = SystemMonitor(clock), SampleBuffer(excluded_stages=(DEVICE_RESIDENT,))

    def record(incomplete: str | None = None) -> BenchRecord:
        samples = buffer.samples()
        return BenchRecord(
            SINGLE_QUESTION,
            describe_environment(),
            _single_conditions(runner, scans, plan, samples),
            once,
            samples,
            clocks=CLOCKS,
            surroundings=monitor.finish(),
            resources={"model file, bytes": len(runner.model.data)},
            incomplete=incomplete,
        )

    with keep_partial_result(record):
        plan.measure(_predict_and_infer(runner, scans), buffer, clock, monitor.watch(progress))
    return record(plan.shortfall(buffer.samples()))


def _predict_and_infer(runner: Runner, scans: Sequence[Path]) -> TimedRun:
    """Predict a scan from its file, then run the network alone on the device."""
    workload = ScanWorkload(runner, scans)
    run_on_device = runner.bind_on_device(prepare_network_input(scans[0], runner.contract))

    def run_once(number: int, timer: StageTimer) -> None:
        workload.predict(number, timer)
        run_on_device()
        timer.lap(DEVICE_RESIDENT)

    return run_once


def _single_conditions(runner: Runner, scans: Sequence[Path], plan: RunCount, samples: Samples) -> dict[str, Any]:
    return {
        "scenario": "single",
        "receipt": runner.run_report.to_dict(),
        "scans": [path.name for path in scans],
        "order": "run n takes scan n mod their number",
        "runs_until_steady": samples.steady_after,
        "target_precision": plan.until.precision,
        "budget_s": plan.until.budget_s,
    }


@dataclass(frozen=True)
class SweepConfiguration:
    """One row of a sweep.

    Parameters
    ----------
    threads
        Within an operator on the CPU; as many as usable cores if None.
    batch
        Scans in one run of the network.
    """

    threads: int | None
    batch: int

    @property
    def name(self) -> str:
        """``threads 2, batch 4``; without the threads where they are not swept."""
        return f"batch {self.batch}" if self.threads is None else f"threads {self.threads}, batch {self.batch}"


def sweep_configurations(threads: Sequence[int], batches: Sequence[int]) -> tuple[SweepConfiguration, ...]:
    """Each number of threads with each batch size; by default the threads of the session, and batch 1."""
    return tuple(SweepConfiguration(count, batch) for count in threads or (None,) for batch in batches or (1,))


def measure_sweep(
    open_runner: Callable[[int | None], Runner],
    volumes: NDArray[np.float32],
    configurations: Sequence[SweepConfiguration],
    plan: RunCount,
    *,
    conditions: Mapping[str, Any],
    clock: Clock | None = None,
    progress: Progress = no_progress,
) -> BenchRecord:
    """Time each configuration in a session of its own, one after the other, each from its steady state.

    Sessions are not interleaved: two open sessions share memory and cores, and the waiting threads of one disturb the
    other. A drift of the machine therefore affects some configurations and not others; snapshots show when.

    Parameters
    ----------
    open_runner
        Opens a session with a number of threads.
    volumes
        ``(N, *contract.shape)`` prepared scans, repeated in order to fill a batch.
    plan
        Runs and time limit of each configuration.
    conditions
        Scenario and inputs, for the record.

    Raises
    ------
    PartialResultError
        A run failed or was interrupted; holds the record so far. Its cause is a `UsageError` if the provider ignores
        a number of threads, since the same would be measured twice.
    """
    clock = clock or WallClock()
    monitor, buffers = SystemMonitor(clock), {entry.name: SampleBuffer() for entry in configurations}
    facts: dict[str, Any] = {**conditions, "configurations": {entry.name: asdict(entry) for entry in configurations}}

    def record(incomplete: str | None = None) -> BenchRecord:
        return BenchRecord(
            SWEEP_QUESTION,
            describe_environment(),
            facts,
            {},
            _by_configuration(buffers),
            arrangement="blocks",
            surroundings=monitor.finish(),
            incomplete=incomplete,
        )

    with keep_partial_result(record):
        for entry in configurations:
            with open_runner(entry.threads) as runner:
                _require_threads(runner, entry.threads)
                facts.setdefault("receipt", runner.run_report.to_dict())
                work = _infer_batch(runner, volumes, entry.batch)
                plan.measure(work, buffers[entry.name], clock, monitor.watch(progress))
    return record(_describe_shortfalls(plan, buffers))


def _describe_shortfalls(plan: RunCount, buffers: Mapping[str, SampleBuffer]) -> str | None:
    """Configurations with fewer runs than requested; None if there are none."""
    texts = {name: plan.shortfall(buffer.samples()) for name, buffer in buffers.items()}
    return "; ".join(f"{name}: {text}" for name, text in texts.items() if text) or None


def _require_threads(runner: Runner, threads: int | None) -> None:
    found = runner.run_report.threads
    if threads is not None and found != threads:
        does = "chooses its threads itself" if found is None else f"runs with {found}"
        raise UsageError(f"threads={threads} cannot be measured: {runner.run_report.actual} {does} here.")


def _infer_batch(runner: Runner, volumes: NDArray[np.float32], size: int) -> TimedRun:
    """Run the network on one batch; volumes repeat in order until it is full."""
    batch = np.stack(list(islice(cycle(volumes), size)))

    def infer(_: int, timer: StageTimer) -> None:
        runner.infer(batch)
        timer.lap(BATCH_STAGE)

    return infer


def _by_configuration(buffers: Mapping[str, SampleBuffer]) -> Samples:
    """Durations of a batch by configuration; those without any are left out."""
    samples = {name: buffer.samples() for name, buffer in buffers.items()}
    return Samples(
        {name: found.warmup[BATCH_STAGE] for name, found in samples.items() if found.warmup},
        {name: found.counted[BATCH_STAGE] for name, found in samples.items() if found.counted},
    )
