"""``ct3d-edge bench``: time from scan file to record on this machine, by stage."""

import logging
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ct3d_edge.cli import bench_records, bench_scenarios
from ct3d_edge.cli.bench_scenarios import BenchAmounts, BenchTarget, timed_import
from ct3d_edge.cli.click_extras import StrictCommand, StrictGroup, example_of
from ct3d_edge.cli.options import (
    AllowFallbackOption,
    DeviceIdOption,
    IgnoreTuningOption,
    ModelOption,
    NoBuildOption,
    ProviderOption,
    ProviderOptionsOption,
    RunReportOption,
    inference_config,
    resolve_model_path,
)
from ct3d_edge.errors import UsageError
from ct3d_edge.system.atomic_write import require_writable

if TYPE_CHECKING:
    from ct3d_edge.latency.record import BenchRecord

SECONDS = {"": 1, "ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3600}
AXES = ("threads", "batch")
MAX_COUNT = 4096

app = typer.Typer(cls=StrictGroup, invoke_without_command=True, rich_markup_mode=None, epilog=example_of("bench"))
app.command(cls=StrictCommand, epilog=example_of("bench compare"))(bench_records.compare)
app.command(cls=StrictCommand, epilog=example_of("bench history"))(bench_records.history)
app.command(cls=StrictCommand, epilog=example_of("bench show"))(bench_records.show)


@app.callback()
def bench(
    context: typer.Context,
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: AllowFallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_build: NoBuildOption = False,
    no_tuned: IgnoreTuningOption = False,
    run_report: RunReportOption = None,
    scans: Annotated[
        Path | None,
        typer.Option("--input", "-i", help="Scans to time, in turn; one phantom of 512 x 512 x 40 if left out."),
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option("--runs", "-n", min=1, help="Counted runs, of each configuration or rate."),
    ] = None,
    target_precision: Annotated[
        str | None,
        typer.Option("--ci-width", metavar="N%", help="Go on until the median is known to +- N % (at 99 %)."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--time-limit", metavar="TIME", help="Stop after 60s, 2m ...; 60s with --ci-width."),
    ] = None,
    scenario: Annotated[
        Literal["single", "offline", "server"],
        typer.Option("--scenario", help="One scan after the other; batches from memory; random arrivals."),
    ] = "single",
    sweep: Annotated[
        list[str] | None,
        typer.Option("--sweep", metavar="AXIS=N,...", help="threads=1,2 or batch=1,2,4, or both: a table of each."),
    ] = None,
    latency_bound: Annotated[
        str | None,
        typer.Option("--latency-slo", metavar="TIME", help="Of server, 500ms ...; 3 medians alone if left out."),
    ] = None,
    resources: Annotated[
        bool, typer.Option("--resources", help="Also memory, CPU time and energy of a scan, in a fresh process.")
    ] = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Also each layer's time, the limits of this machine, and the bottleneck."),
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write every sample and the environment.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write the figures as a page here.")] = None,
) -> None:
    """Time scan file to record, and compare records.

    Import, session, first run, steady state and its stages are timed apart. Nothing is dropped or averaged away:
    percentiles are measured samples with intervals, shown where there are enough of them; the file has all samples.
    """
    if context.invoked_subcommand:
        _refuse_own_options(context)
        return
    wanted = BenchAmounts(runs, parse_share("--ci-width", target_precision), parse_seconds("--time-limit", budget))
    bound_s = parse_seconds("--latency-slo", latency_bound)
    measurement = _measurement(scenario, wanted, parse_axes(sweep), bound_s, resources=resources, profile=profile)
    for path in (out, run_report):
        if path:
            require_writable(path)
    if html:
        bench_records.require_page(html)
    once = timed_import()
    from ct3d_edge.inference.config import resolve_model

    config = inference_config(
        provider, allow_fallback, provider_option, device_id, no_build=no_build, no_tuned=no_tuned
    )
    # Before anything is measured: a tuning is found by hashing the files, which no session needs.
    target = BenchTarget(resolve_model(resolve_model_path(model), config), run_report)
    record = _measure(scans, lambda paths: measurement(target, paths, once), out)
    if html:
        bench_records.write_page(record, html)


def _refuse_own_options(context: typer.Context) -> None:
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is not None and source.name == "COMMANDLINE":
            option = max(parameter.opts, key=len)
            raise UsageError(f"{option} is for `bench` itself; `bench {context.invoked_subcommand}` does not use it.")


def _measurement(
    scenario: str,
    wanted: BenchAmounts,
    swept: dict[str, tuple[int, ...]],
    bound_s: float | None,
    *,
    resources: bool,
    profile: bool,
) -> bench_scenarios.Measurement:
    """Choose the measurement; contradicting options are refused before anything is opened."""
    if bound_s is not None and scenario != "server":
        raise UsageError("--latency-slo is for --scenario server.")
    for option, asked in (("--resources", resources), ("--profile", profile)):
        if asked and (swept or scenario != "single"):
            raise UsageError(f"{option} is for --scenario single without --sweep.")
    if scenario == "server":
        if swept or wanted.precision:
            raise UsageError("--scenario server takes neither --sweep nor --ci-width: it varies the rate itself.")
        _require_tail(wanted.runs)
        return partial(bench_scenarios.server, wanted, bound_s)
    if scenario == "offline" or swept:
        return partial(bench_scenarios.sweep, wanted, swept, scenario)
    return partial(bench_scenarios.single, wanted, resources, profile)


def _require_tail(runs: int | None) -> None:
    from ct3d_edge.latency.statistics import min_samples

    if runs is not None and runs < min_samples(90):
        raise UsageError(
            f"--scenario server needs --runs {min_samples(90)} or more: fewer give no percentile of the tail."
        )


def _measure(scans: Path | None, measurement: "Callable[[list[Path]], BenchRecord]", out: Path | None) -> "BenchRecord":
    """Measure and write the record, also of a measurement that failed."""
    from ct3d_edge.benchmark.workload import bench_scans
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.latency.record import PartialResultError

    try:
        with bench_scans(scans) as paths:
            record = measurement(paths)
    except PartialResultError as broken:
        if out:
            broken.record.save(out)
            log(f"wrote {out}, incomplete: {broken}", logging.WARNING)
        raise broken.__cause__ or broken from None
    if record.incomplete:
        log(f"incomplete: {record.incomplete}", logging.WARNING)
    if out:
        record.save(out)
        typer.echo(f"wrote {out}")
    return record


def parse_share(option: str, text: str | None) -> float | None:
    """``2%`` as 0.02.

    Raises
    ------
    UsageError
        If it is no percentage above 0 and below 100.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if match is None or not 0 < float(match[1]) < 100:
        raise UsageError(f"{option} takes a percentage above 0 and below 100, such as 2%; found {text!r}.")
    return float(match[1]) / 100


def parse_seconds(option: str, text: str | None) -> float | None:
    """``60s``, ``2m`` or ``90`` in seconds.

    Raises
    ------
    UsageError
        If it is no time above 0.
    """
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|)\s*", text)
    if match is None or float(match[1]) == 0:
        raise UsageError(f"{option} takes a time above 0, such as 500ms, 60s or 2m; found {text!r}.")
    return float(match[1]) * SECONDS[match[2]]


def parse_axes(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """``threads=1,2`` and ``batch=1,2,4`` as numbers by axis.

    Raises
    ------
    UsageError
        If an axis is unknown or named twice, or a number is not from 1 to 4096 or comes twice.
    """
    found: dict[str, tuple[int, ...]] = {}
    for text in texts or ():
        name, _, values = text.replace(" ", "").partition("=")
        numbers = tuple(int(value) for value in values.split(",") if value.isascii() and value.isdigit())
        different = len(numbers) == len(values.split(",")) == len(set(numbers))
        if name not in AXES or name in found or not different or not 1 <= min(numbers) <= max(numbers) <= MAX_COUNT:
            raise UsageError(
                f"--sweep takes threads=1,2 or batch=1,2,4, each axis once, different numbers from 1 to {MAX_COUNT}; "
                f"found {text!r}."
            )
        found[name] = numbers
    return found
