"""The scenarios of `bench`: what each one opens, measures and prints."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ct3d_edge.cli import bench_profile
from ct3d_edge.cli.bench_options import Amounts
from ct3d_edge.cli.bench_target import Target
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    from ct3d_edge.latency import BenchRecord

Measurement = Callable[[Target, list[Path], dict[str, float]], "BenchRecord"]
"""Measures a target on scans; the last argument holds what happened once so far, in ms."""

OFFLINE_BATCHES = (1, 2, 4, 8)
RUNS, RUNS_OF_A_CONFIGURATION = 50, 20


def single(amounts: Amounts, *, resources: bool, profile: bool = False) -> Measurement:
    """One scan after the other, and before that everything that happens once; memory, energy, layers if asked for."""
    return partial(_single, amounts, resources, profile)


def sweep(amounts: Amounts, axes: dict[str, tuple[int, ...]], scenario: str) -> Measurement:
    """Batches from memory, in each configuration."""
    return partial(_sweep, amounts, axes, scenario)


def server(amounts: Amounts, bound_s: float | None) -> Measurement:
    """Scans that arrive at random, at several rates.

    Raises
    ------
    UsageError
        If the requests are too few for any tail.
    """
    from ct3d_edge.latency import enough

    if amounts.runs is not None and amounts.runs < enough(90):
        raise UsageError(f"--scenario server needs --runs {enough(90)} or more: fewer know no tail, not even p90.")
    return partial(_server, amounts, bound_s)


def _single(
    amounts: Amounts, resources: bool, profile: bool, target: Target, scans: list[Path], once: dict[str, float]
) -> "BenchRecord":
    from ct3d_edge.benchmark import Job, keep_what_was_taken, measure_resources, measure_single, network_input
    from ct3d_edge.cli.bench_print import print_single
    from ct3d_edge.cli.terminal import progress, say_receipt
    from ct3d_edge.latency import StageTimer, WallClock

    plan, timer = amounts.plan(RUNS), StageTimer(WallClock(), once)
    _ = target.file
    timer.lap("model file")
    with target.open() as runner:
        timer.lap("session")
        say_receipt(runner.receipt)
        if profile:
            bench_profile.require_cpu(runner.receipt.actual)
        first, *_ = [network_input(path, runner.contract) for path in scans]
        timer = StageTimer(WallClock(), once)
        runner.infer(first)
        timer.lap("first run")
        with progress(plan.runs, "Runs") as advance:
            record = measure_single(runner, scans, plan, once=once, on_run=advance)
    if resources:
        # A target that has read its model would bring it along into the fresh process.
        with keep_what_was_taken(lambda reason: replace(record, incomplete=reason)):
            spent = measure_resources(Job(replace(target).open, scans[0]))
        record = replace(record, resources={**record.resources, **spent})
    print_single(record)
    return bench_profile.add_profile(record, target, first[0]) if profile else record


def _sweep(
    amounts: Amounts,
    axes: dict[str, tuple[int, ...]],
    scenario: str,
    target: Target,
    scans: list[Path],
    _: dict[str, float],
) -> "BenchRecord":
    import numpy as np

    from ct3d_edge.benchmark import configurations, measure_sweep, network_input
    from ct3d_edge.cli.bench_print import print_sweep
    from ct3d_edge.cli.terminal import progress

    plan = amounts.plan(RUNS_OF_A_CONFIGURATION)
    batches = axes.get("batch", OFFLINE_BATCHES if scenario == "offline" else (1,))
    wanted = configurations(axes.get("threads", ()), batches)
    used = scans[: max(batches)]
    volumes = np.concatenate([network_input(path, target.file.contract) for path in used])
    conditions = {"scenario": scenario, "scans": [path.name for path in used]}
    with progress(plan.runs * len(wanted), "Runs") as advance:
        record = measure_sweep(target.open, volumes, wanted, plan, conditions=conditions, on_run=advance)
    print_sweep(record)
    return record


def _server(
    amounts: Amounts, bound_s: float | None, target: Target, scans: list[Path], _: dict[str, float]
) -> "BenchRecord":
    from ct3d_edge.benchmark import ServerPlan, measure_server, network_input
    from ct3d_edge.cli.bench_print import print_server
    from ct3d_edge.cli.terminal import progress, say_receipt
    from ct3d_edge.latency import enough

    bound_ms = None if bound_s is None else 1000 * bound_s
    plan = ServerPlan(amounts.runs or enough(90), bound_ms, budget_s=amounts.budget_s)
    with target.open() as runner:
        say_receipt(runner.receipt)
        for path in scans:
            network_input(path, runner.contract)
        with progress(plan.requests * plan.rates, "Scans") as advance:
            record, attempts = measure_server(runner, scans, plan, on_request=advance)
    print_server(record, attempts)
    return record
