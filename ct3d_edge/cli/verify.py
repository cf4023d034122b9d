"""``ct3d-edge verify``: does this machine give the predictions the model was exported with?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.options import (
    AllowFallbackOption,
    DeprecatedModelArgument,
    DeviceIdOption,
    IgnoreTuningOption,
    ModelOption,
    NoBuildOption,
    ProviderOption,
    ProviderOptionsOption,
    RunReportOption,
    inference_config,
    resolve_model_argument,
    resolve_model_path,
)
from ct3d_edge.errors import CheckFailedError

if TYPE_CHECKING:
    from ct3d_edge.modelfile.model_file import ModelFile


def verify(
    argument: DeprecatedModelArgument = None,
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: AllowFallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_build: NoBuildOption = False,
    no_tuned: IgnoreTuningOption = False,
    run_report: RunReportOption = None,
    renew: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="If it passes, write the same model there with a new golden test."),
    ] = None,
) -> None:
    """Rerun the golden test inside a model file.

    The file is the one that `infer` runs: the tuned one, where there is one. Exit code 4 if its predictions differ
    from those that the model was exported with, or tensors inside the graph do.
    """
    from ct3d_edge.cli.terminal import log, log_run_report, print_lines
    from ct3d_edge.inference.config import open_runner
    from ct3d_edge.session.verify import run_golden_test
    from ct3d_edge.system.atomic_write import require_writable

    path = resolve_model_path(resolve_model_argument(model, argument))
    for target in filter(None, (renew, run_report)):
        require_writable(target)
    config = inference_config(
        provider, allow_fallback, provider_option, device_id, no_build=no_build, no_tuned=no_tuned or renew is not None
    )
    with open_runner(path, config, stored_voxels=renew is None) as runner:
        file = runner.model
        log_run_report(runner.run_report)
        if run_report:
            runner.run_report.save(run_report)
            log(f"wrote {run_report}")
        outcome = run_golden_test(runner)
        lines = outcome.describe(runner.run_report.actual)
    if not outcome.passed:
        raise CheckFailedError(f"The golden test failed: {'; '.join(lines)}. Do not use this model on this provider.")
    print_lines([f"verified: {lines[0]}", *(f"          {line}" for line in lines[1:])])
    if renew:
        _write_renewed_model(file, renew)
    elif outcome.limitation:
        log(f"warning: the golden test is weak: {outcome.limitation}. {_suggest_remedy(file)}")


def _suggest_remedy(file: "ModelFile") -> str:
    if not file.golden.uses_first_recipe:
        return "Its provenance names what else it was compared on: ct3d-edge inspect"
    if file.stored_voxels:
        return "Export the model again"
    return f"Export the model again, or: ct3d-edge verify --model {file.path} --renew NEW.onnx"


def _write_renewed_model(file: "ModelFile", out: Path) -> None:
    from ct3d_edge.session.verify import renew_golden_test
    from ct3d_edge.system.atomic_write import atomic_file

    data, golden = renew_golden_test(file)
    with atomic_file(out) as stream:
        stream.write(data)
    typer.echo(f"wrote {out}: the same graph, {len(golden.inputs)} golden inputs, {len(golden.tensors)} tensors")
    if golden.limitation:
        typer.echo(f"warning: the golden test is weak: {golden.limitation}")
