"""``ct3d-edge tune``: which form of a model, precision, threads and options are fastest here, verified and stored."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.compile_options import CalibrationDataOption, ParityDataOption, ToleranceOption
from ct3d_edge.cli.logs import to_option_names
from ct3d_edge.cli.options import DeprecatedModelArgument, RequiredModelOption, resolve_required_model
from ct3d_edge.errors import UsageError
from ct3d_edge.extras import OPTIMIZE_MODULES, has_modules, pip_install_command, require_extra
from ct3d_edge.formatting import parse_size
from ct3d_edge.providers.names import TunedProvider, install_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ct3d_edge.session.run_report import RunReport
    from ct3d_edge.tuning.candidate import CandidateResult, GraphForm
    from ct3d_edge.tuning.result import TuningResult


def tune(
    argument: DeprecatedModelArgument = None,
    model: RequiredModelOption = None,
    provider: Annotated[
        TunedProvider,
        typer.Option(
            "--provider",
            "-p",
            metavar="NAME",
            help="Execution provider to tune for (tensorrt, nv-tensorrt-rtx, cuda, openvino, cpu, auto), or any: each "
            "that works here, the fastest of which is what `auto` then runs.",
        ),
    ] = "any",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-precision",
            metavar="[fp32|fp16|bf16|int8|any]",
            help="Permit candidates in fewer bits, whose predictions differ within that "
            "precision's limit; may be repeated. any: those that provider and device compute in by themselves. "
            "The given file's own is always tried.",
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option("--max-memory", metavar="SIZE", help="What a session and its runs may add, like 150MB."),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", "-n", min=3, help="Runs of each candidate that are counted, in turn.")
    ] = 15,
    parity: ParityDataOption = None,
    calibrate: CalibrationDataOption = None,
    limit: ToleranceOption = None,
) -> None:
    """Find what runs a model fastest on this device.

    Forms of its graph, precisions, threads and provider options are measured in turn, and the fastest is selected.
    Whatever does not predict what the given model predicts is dropped. The choice goes to MODEL.tuned.json beside the
    model, another form of the graph to MODEL.tuned.onnx; those of other providers than cpu have its name in theirs
    (tuned-openvino).
    Every command that runs the model follows the provider's choice while model, device and versions are the same, and
    `--provider auto` that of the fastest provider.
    Where nothing holds, nothing is written, and the exit code is 4.
    """
    path = resolve_required_model(model, argument)
    budget = parse_size(max_memory)
    asked = _check_precisions(precision or [])
    if calibrate and not set(asked) - {"fp32"}:
        raise UsageError("--calibration-data is for --allow-precision fp16, int8 and any: fp32 needs no calibration.")
    require_extra("optimize", OPTIMIZE_MODULES)
    from ct3d_edge.cli.terminal import ProgressBars
    from ct3d_edge.tuning.tune import TuneConfig
    from ct3d_edge.tuning.tune import tune as tune_model

    config = TuneConfig(provider, asked, budget, rounds, parity, calibrate, limit)
    with ProgressBars() as bars:
        choice = tune_model(
            path,
            config,
            report=lambda name, results, dropped: print_candidates(name, results, dropped, budget),
            progress=bars,
        )
    print_tuning_result(choice)


def _check_precisions(texts: list[str]) -> tuple[str, ...]:
    from ct3d_edge.conversion.precision.tolerances import PRECISION_TOLERANCES

    known = (*PRECISION_TOLERANCES, "any")
    unknown = [text for text in texts if text not in known]
    if unknown:
        raise UsageError(f"--allow-precision takes one of {', '.join(known)} at a time, found {unknown[0]!r}.")
    return tuple(texts)


def print_candidates(
    provider: str, results: "Sequence[CandidateResult]", dropped: "Mapping[GraphForm, str]", budget: int | None
) -> None:
    """Print candidates in the order of measurement, graph variants without any, and the reasons for dropped ones."""
    from rich.text import Text

    from ct3d_edge.cli.terminal import stdout_console
    from ct3d_edge.formatting import printable
    from ct3d_edge.report.table import group_messages, make_plain_table

    table = make_plain_table(f"candidate on {provider}", "median ms", "99 % interval", "MB", "status")
    table.columns[0].overflow = "fold"
    for column in table.columns[1:4]:
        column.justify = "right"
    for result in results:
        table.add_row(result.candidate.name, *_result_cells(result), _candidate_status(result, budget))
    for form in dropped:
        table.add_row(form.name, "", "", "", "dropped")
    console = stdout_console()
    console.print(table)
    reasons = [(result.candidate.name, result.dropped) for result in results]
    reasons += [(form.name, reason) for form, reason in dropped.items()]
    names = [f"({name})" for name, _ in reasons]  # there are commas in them
    for note in group_messages(
        [[("dropped", printable(to_option_names(reason)))] if reason else [] for _, reason in reasons], names
    ):
        console.print(Text(note.format(names, console.width, what="candidate")))


def _result_cells(result: "CandidateResult") -> tuple[str, str, str]:
    memory = "" if result.memory is None else f"{result.memory / 1e6:.0f}"
    if not result.samples:
        return "", "", memory
    median = result.median
    ends = ("?" if end is None else f"{end:.1f}" for end in (median.low, median.high))
    return f"{median.value:.1f}", " .. ".join(ends), memory


def _candidate_status(result: "CandidateResult", budget: int | None) -> str:
    from ct3d_edge.tuning.result import exceeds_memory_budget

    if result.dropped:
        return "dropped"
    return "over the budget" if exceeds_memory_budget(result, budget) else "holds"


def print_tuning_result(choice: "TuningResult") -> None:
    """Print the choice, its speed-up and precision."""
    from ct3d_edge.cli.terminal import print_lines

    best, plain = choice.results[choice.selected], choice.results[choice.baseline]
    print_lines([f"chosen: {best.candidate.name} on {choice.key.provider}"])
    if best is not plain and plain.samples:
        print_lines([speedup(best, plain)])
    if choice.lowers_precision:
        print_lines([choice.describe_precision()])


def speedup(best: "CandidateResult", plain: "CandidateResult") -> str:
    """The speed-up, compared round by round, so that a drift of the machine has no effect."""
    from ct3d_edge.latency.statistics import percentile

    ratio = percentile([slow / fast for slow, fast in zip(plain.samples, best.samples, strict=True)], 50)
    sentence = f"{ratio.value:.2f} times as fast as the given file with default options"
    of_medians = plain.median.value / best.median.value
    if f"{of_medians:.2f}" != f"{ratio.value:.2f}":
        sentence += (
            f", compared round by round (the medians above give {of_medians:.2f}: the speed of the machine changed)"
        )
    if ratio.low is None or ratio.high is None:
        return f"{sentence}; too few rounds for an interval"
    chance = "; it may be chance" if ratio.low <= 1 else ""
    return f"{sentence} (median of the rounds' ratios; 99 % interval {ratio.low:.2f} to {ratio.high:.2f}){chance}"


def suggest_tuning(model: Path, run_report: "RunReport") -> None:
    """Log the command that may find something faster: this CPU multiplies small numbers faster than float32."""
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.session.provider_selection import is_available
    from ct3d_edge.system.machine import detect_cpu_features

    features = detect_cpu_features() or {}
    units = [name for name in ("AMX", "VNNI") if features.get(name)]
    if not units or run_report.tuned or (run_report.requested, run_report.actual) != ("auto", "cpu"):
        return
    log(f"this CPU has {' and '.join(units)}; a faster way may be found by:")
    if not has_modules(OPTIMIZE_MODULES):
        log(f"  {pip_install_command('optimize')}")
    if not is_available("openvino"):
        log(f"  {install_command('openvino')}  (optional)")
    log(f"  ct3d-edge tune --model {shlex.quote(str(model))} --allow-precision any")
