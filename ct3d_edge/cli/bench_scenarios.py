"""Scenarios of ``bench``: each opens a session, measures, and prints its record."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ct3d_edge.benchmark.scenarios import RunCount
    from ct3d_edge.inference.config import ResolvedModel
    from ct3d_edge.latency.record import BenchRecord
    from ct3d_edge.modelfile.model_file import ModelFile
    from ct3d_edge.session.runner import Runner

DEFAULT_TIME_LIMIT_S = 60.0
"""Default with a precision."""

OFFLINE_BATCHES = (1, 2, 4, 8)
RUNS, RUNS_OF_A_CONFIGURATION = 50, 20


@dataclass(frozen=True)
class BenchAmounts:
    """Options for the number of runs; None for those left out."""

    runs: int | None
    precision: float | None
    budget_s: float | None

    def plan(self, runs: int) -> "RunCount":
        """The number of runs, by default ``runs``; with a precision the least number that has an interval."""
        from ct3d_edge.benchmark.scenarios import RunCount
        from ct3d_edge.latency.compare import MIN_MEDIAN_SAMPLES
        from ct3d_edge.latency.measure import StopCriterion

        if self.precision is None:
            return RunCount(self.runs or runs, StopCriterion(None, self.budget_s))
        until = StopCriterion(self.precision, self.budget_s or DEFAULT_TIME_LIMIT_S)
        return RunCount(self.runs or MIN_MEDIAN_SAMPLES, until)


@dataclass(frozen=True)
class BenchTarget:
    """The model that every scenario measures, with the provider and options of ``infer``."""

    resolved: "ResolvedModel"
    run_report: Path | None = None

    @cached_property
    def file(self) -> "ModelFile":
        """The checked model file."""
        from ct3d_edge.modelfile.model_file import load_model_file

        return load_model_file(self.resolved.path)

    def open(self, threads: int | None = None) -> "Runner":
        """Open a session, by default with the configured threads; write its run report if there is a file for it."""
        from ct3d_edge.cli.terminal import log
        from ct3d_edge.session.runner import Runner

        request = self.resolved.request
        threads = threads or request.threads or self.resolved.tuned_threads
        runner = Runner(self.file, replace(request, threads=threads))
        if self.run_report:
            runner.run_report.save(self.run_report)
            log(f"wrote {self.run_report}")
        return runner


def timed_import() -> dict[str, float]:
    """Time the import of what `infer` needs; call it before anything else imports that."""
    began = time.perf_counter()
    from ct3d_edge.inference.load_model import load_model  # noqa: F401

    return {"import": (time.perf_counter() - began) * 1e3}


Measurement = Callable[[BenchTarget, list[Path], dict[str, float]], "BenchRecord"]
"""Measures a target on scans; the last argument holds durations in ms of what happened once so far."""


def single(
    amounts: BenchAmounts,
    resources: bool,
    profile: bool,
    target: BenchTarget,
    scans: list[Path],
    once: dict[str, float],
) -> "BenchRecord":
    """Measure what happens once, then one scan after the other; optionally memory and energy, and layers."""
    from ct3d_edge.benchmark.scenarios import measure_single
    from ct3d_edge.benchmark.workload import ResourceJob, measure_resources, prepare_network_input
    from ct3d_edge.cli.bench_print import print_single
    from ct3d_edge.cli.terminal import ProgressBars, log_run_report
    from ct3d_edge.latency.measure import StageTimer, WallClock
    from ct3d_edge.latency.record import keep_partial_result

    plan, timer = amounts.plan(RUNS), StageTimer(WallClock(), once)
    _ = target.file
    timer.lap("model file")
    with target.open() as runner:
        timer.lap("session")
        log_run_report(runner.run_report)
        if profile:
            _require_cpu(runner.run_report.actual)
        first, *_ = [prepare_network_input(path, runner.contract) for path in scans]
        timer = StageTimer(WallClock(), once)
        runner.infer(first)
        timer.lap("first run")
        with ProgressBars() as bars:
            record = measure_single(runner, scans, plan, once=once, progress=bars)
    if resources:
        # A target that has read its model would be pickled with it.
        with keep_partial_result(lambda reason: replace(record, incomplete=reason)):
            spent = measure_resources(ResourceJob(replace(target).open, scans[0]))
        record = replace(record, resources={**record.resources, **spent})
    print_single(record)
    return _add_profile(record, target, first[0]) if profile else record


def _require_cpu(actual: str) -> None:
    """Refuse a provider that cannot be profiled before anything is measured."""
    if actual != "cpu":
        raise UsageError(
            f"--profile times operators on the CPU provider; here {actual} runs them, and ONNX Runtime times only "
            "their start. Add --provider cpu, or use the vendor's profiler."
        )


def _add_profile(record: "BenchRecord", target: BenchTarget, volume: "NDArray[np.float32]") -> "BenchRecord":
    """Profile a network input, print the table, and add it to the record."""
    from ct3d_edge.benchmark.layer_profile import profile_scan
    from ct3d_edge.cli.bench_print import print_profile
    from ct3d_edge.latency.record import keep_partial_result
    from ct3d_edge.providers.options import CpuOptions

    asked = target.resolved.request.options
    options = asked if isinstance(asked, CpuOptions) else None
    threads = int(record.conditions["receipt"]["threads"])
    with keep_partial_result(lambda reason: replace(record, incomplete=reason)):
        scan_profile = profile_scan(target.file, volume, record.samples.counted, threads, options=options)
    profile = scan_profile.to_dict()
    print_profile(profile)
    return replace(record, conditions={**record.conditions, "profile": profile, "roofline": scan_profile.roofline()})


def sweep(
    amounts: BenchAmounts,
    axes: dict[str, tuple[int, ...]],
    scenario: str,
    target: BenchTarget,
    scans: list[Path],
    _: dict[str, float],
) -> "BenchRecord":
    """Measure batches from memory in each configuration."""
    import numpy as np

    from ct3d_edge.benchmark.scenarios import measure_sweep, sweep_configurations
    from ct3d_edge.benchmark.workload import prepare_network_input
    from ct3d_edge.cli.bench_print import print_sweep
    from ct3d_edge.cli.terminal import ProgressBars

    plan = amounts.plan(RUNS_OF_A_CONFIGURATION)
    batches = axes.get("batch", OFFLINE_BATCHES if scenario == "offline" else (1,))
    configurations = sweep_configurations(axes.get("threads", ()), batches)
    used = scans[: max(batches)]
    volumes = np.concatenate([prepare_network_input(path, target.file.contract) for path in used])
    conditions = {"scenario": scenario, "scans": [path.name for path in used]}
    with ProgressBars() as bars:
        record = measure_sweep(target.open, volumes, configurations, plan, conditions=conditions, progress=bars)
    print_sweep(record)
    return record


def server(
    amounts: BenchAmounts, bound_s: float | None, target: BenchTarget, scans: list[Path], _: dict[str, float]
) -> "BenchRecord":
    """Measure Poisson arrivals at several rates."""
    from ct3d_edge.benchmark.server_scenario import ServerPlan, measure_server
    from ct3d_edge.benchmark.workload import prepare_network_input
    from ct3d_edge.cli.bench_print import print_server
    from ct3d_edge.cli.terminal import ProgressBars, log_run_report
    from ct3d_edge.latency.statistics import min_samples

    bound_ms = None if bound_s is None else 1000 * bound_s
    plan = ServerPlan(amounts.runs or min_samples(90), bound_ms, budget_s=amounts.budget_s)
    with target.open() as runner:
        log_run_report(runner.run_report)
        for path in scans:
            prepare_network_input(path, runner.contract)
        with ProgressBars() as bars:
            record, attempts = measure_server(runner, scans, plan, progress=bars)
    print_server(record, attempts)
    return record
