"""``ct3d-edge bench``: how long a scan takes here, from file to probability, and where the time goes."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.atomic import require_writable
from ct3d_edge.cli import bench_compare, bench_history
from ct3d_edge.cli.bench_options import seconds, share
from ct3d_edge.cli.options import FallbackOption, ModelOption, ProviderOption, model_path
from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    from ct3d_edge.benchmark import Plan
    from ct3d_edge.latency import BenchRecord

RUNS = 50
FEWEST_RUNS = 8
"""Below these a median has no interval, and no precision."""

BUDGET_S = 60.0

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
app.command()(bench_compare.compare)
app.command()(bench_history.history)


@app.callback()
def bench(
    context: typer.Context,
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: FallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_build: NoBuildOption = False,
    receipt: ReceiptOption = None,
    scans: Annotated[
        Path | None,
        typer.Option("--scans", help="Scans to time, in turn; one phantom of 512 x 512 x 40 if left out."),
    ] = None,
    runs: Annotated[
        int | None, typer.Option("--runs", "-n", min=1, help="Counted runs; 50, or 8 with --target-precision.")
    ] = None,
    target_precision: Annotated[
        str | None,
        typer.Option("--target-precision", metavar="N%", help="Go on until the median is known to +- N % (at 99 %)."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Stop after 60s, 2m ...; 60s with --target-precision."),
    ] = None,
    json_: Annotated[Path | None, typer.Option("--json", help="Write every sample and the environment here.")] = None,
) -> None:
    """Time scan file to probability: import, session, first run, steady state and its stages apart. Compare records.

    Nothing is dropped or averaged away: percentiles are measured samples with intervals, shown where there are enough
    of them; the file has all samples.
    """
    if context.invoked_subcommand:
        _refuse_own_options(context)
        return
    precision, budget_s = share("--target-precision", target_precision), seconds("--budget", budget)
    if json_:
        require_writable(json_)
    once = _timed_import()
    _measure(model, provider, allow_fallback, scans, _plan(runs, precision, budget_s), json_, once)


def _refuse_own_options(context: typer.Context) -> None:
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--" + name.strip("_").replace("_", "-")
            raise UsageError(f"{option} is for `bench` itself; `bench {context.invoked_subcommand}` does not use it.")


def _plan(runs: int | None, precision: float | None, budget_s: float | None) -> "Plan":
    from ct3d_edge.benchmark import Plan
    from ct3d_edge.latency import Until

    if precision is None:
        return Plan(runs or RUNS, Until(None, budget_s))
    return Plan(runs or FEWEST_RUNS, Until(precision, budget_s or BUDGET_S))


def _measure(
    model: Path | None,
    provider: ProviderOption,
    allow_fallback: bool,
    scans: Path | None,
    plan: "Plan",
    json_: Path | None,
    once: dict[str, float],
) -> None:
    """Open the session and measure; whatever was measured when something fails is kept."""
    from ct3d_edge.benchmark import BrokenOffError, bench_scans

    try:
        with bench_scans(scans) as paths:
            record = _record(paths, model, provider, allow_fallback, plan, once)
    except BrokenOffError as broken:
        if json_:
            broken.record.save(json_)
            typer.echo(f"wrote {json_}, incomplete: {broken}", err=True)
        raise broken.__cause__ or broken from None
    _print(record)
    if json_:
        record.save(json_)
        typer.echo(f"wrote {json_}")


def _timed_import() -> dict[str, float]:
    """Import what `infer` needs, before anything else has imported it."""
    began = time.perf_counter()
    from ct3d_edge import preprocess, runtime, scan  # noqa: F401

    return {"import": (time.perf_counter() - began) * 1e3}


def _record(
    paths: list[Path],
    model: Path | None,
    provider: ProviderOption,
    allow_fallback: bool,
    plan: "Plan",
    once: dict[str, float],
) -> "BenchRecord":
    """Everything that happens once, then the steady state."""
    from ct3d_edge.benchmark import measure_single, network_input
    from ct3d_edge.cli.terminal import progress, say_receipt
    from ct3d_edge.latency import StageTimer, WallClock
    from ct3d_edge.runtime import Runner, load_model_file

    timer = StageTimer(WallClock(), once)
    file = load_model_file(model_path(model))
    timer.lap("model file")
    with start(file) as runner:
        timer.lap("session")
        say_receipt(runner.receipt)
        first, *_ = [network_input(path, runner.contract) for path in paths]
        timer = StageTimer(WallClock(), once)
        runner.infer(first)
        timer.lap("first run")
        with progress(plan.runs, "Runs") as advance:
            return measure_single(runner, paths, plan, once=once, on_run=advance)


def _print(record: "BenchRecord") -> None:
    from ct3d_edge.cli.bench_print import print_single

    print_single(record)
    if record.incomplete:
        typer.echo(f"incomplete: {record.incomplete}", err=True)
