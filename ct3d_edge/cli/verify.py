"""``ct3d-edge verify``: does this machine give the answers the model was exported with?"""

import typer

from ct3d_edge.cli.options import (
    DeviceIdOption,
    FallbackOption,
    ModelArgument,
    ModelOption,
    NoBuildOption,
    ProviderOption,
    ProviderOptionsOption,
    ReceiptOption,
    model_path,
    one_model,
)
from ct3d_edge.errors import GateError


def verify(
    argument: ModelArgument = None,
    model: ModelOption = None,
    provider: ProviderOption = "auto",
    allow_fallback: FallbackOption = False,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    no_build: NoBuildOption = False,
    receipt: ReceiptOption = None,
) -> None:
    """Rerun the golden test inside a model file.

    Exit code 4 if the answers differ from those that the model was exported with.
    """
    from ct3d_edge.cli.running import open_runner
    from ct3d_edge.runtime import load_model_file
    from ct3d_edge.runtime import verify as run_golden_test

    file = load_model_file(model_path(one_model(model, argument)), stored_voxels=True)
    with open_runner(file, provider, allow_fallback, provider_option, device_id, no_build, receipt) as runner:
        outcome = run_golden_test(runner)
    told = (
        f"{outcome.inputs} golden inputs on {runner.receipt.actual}: largest difference of probability "
        f"{outcome.largest_difference:.1e}, tolerance {outcome.tolerance:.0e}"
    )
    if not outcome.holds:
        raise GateError(f"The golden test does not hold: {told}. Do not use this model on this provider.")
    typer.echo(f"verified: {told}")
