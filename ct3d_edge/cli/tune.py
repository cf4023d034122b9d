"""``ct3d-edge tune``: which form of a model, precision, threads and options are fastest here, verified and kept."""

from typing import Annotated

import typer

from ct3d_edge.cli.compile_options import CalibrationDataOption, ParityDataOption, ToleranceOption
from ct3d_edge.cli.options import DeprecatedModelArgument, ProviderOption, RequiredModelOption, resolve_required_model
from ct3d_edge.errors import UsageError
from ct3d_edge.extras import OPTIMIZE_MODULES, require_extra
from ct3d_edge.formatting import parse_size


def tune(
    argument: DeprecatedModelArgument = None,
    model: RequiredModelOption = None,
    provider: ProviderOption = "cpu",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-precision",
            metavar="[fp32|fp16|int8|any]",
            help="Permit candidates in fewer bits, whose answers differ within that "
            "precision's limit; may be repeated. any: those that the provider computes in by itself. "
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

    Forms of its graph, precisions, threads and provider options are measured in turn, and the fastest is kept. Whatever
    does not answer as the given model does is dropped. The choice goes to MODEL.tuned.json beside the model, another
    form of the graph to MODEL.tuned.onnx; those of other providers than cpu have its name in theirs (tuned-openvino).
    Every command that runs the model follows the provider's choice while model, device and versions are the same.
    Where nothing holds, nothing is written, and the exit code is 4.
    """
    path = resolve_required_model(model, argument)
    budget = parse_size(max_memory)
    asked = _check_precisions(precision or [])
    if calibrate and not set(asked) - {"fp32"}:
        raise UsageError("--calibration-data is for --allow-precision fp16, int8 and any: fp32 needs no calibration.")
    require_extra("optimize", OPTIMIZE_MODULES)
    from ct3d_edge.cli.terminal import ProgressBars
    from ct3d_edge.cli.tune_print import print_candidates, print_tuning_result
    from ct3d_edge.tuning.tune import TuneConfig
    from ct3d_edge.tuning.tune import tune as tune_model

    config = TuneConfig(provider, asked, budget, rounds, parity, calibrate, limit)
    with ProgressBars() as bars:
        choice = tune_model(
            path,
            config,
            report=lambda results, dropped: print_candidates(results, dropped, budget),
            progress=bars,
        )
    print_tuning_result(choice, path)


def _check_precisions(texts: list[str]) -> tuple[str, ...]:
    from ct3d_edge.conversion.precision.tolerances import PRECISIONS

    known = (*PRECISIONS, "any")
    unknown = [text for text in texts if text not in known]
    if unknown:
        raise UsageError(f"--allow-precision takes one of {', '.join(known)} at a time, found {unknown[0]!r}.")
    return tuple(texts)
