"""``ct3d-edge build``: what a provider has to build for a model and a device, built before it is needed."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ct3d_edge.cli.options import DeviceIdOption, ModelOption, ProviderOptionsOption, resolve_model_path

if TYPE_CHECKING:
    from ct3d_edge.session.run_report import EngineUsed
    from ct3d_edge.session.runner import Runner


def build(
    provider: Annotated[
        Literal["tensorrt"], typer.Option("--provider", "-p", help="Provider that builds engines ahead.")
    ],
    model: ModelOption = None,
    provider_option: ProviderOptionsOption = None,
    device_id: DeviceIdOption = None,
    batch: Annotated[int, typer.Option("--batch-size", min=1, help="Volumes in one run.")] = 1,
) -> None:
    """Build a model's TensorRT engine for this GPU ahead.

    That takes minutes. The engine is stored and found again by what it depends on: model, shapes,
    options, GPU, driver and library versions.
    """
    from dataclasses import replace

    from ct3d_edge.cli.options import inference_config
    from ct3d_edge.cli.terminal import show_elapsed
    from ct3d_edge.modelfile.model_file import load_model_file
    from ct3d_edge.session.runner import Runner

    file = load_model_file(resolve_model_path(model))
    config = inference_config(provider, False, provider_option, device_id)
    request = replace(config.session(), batch=batch, hint=False)  # a lesser provider would build nothing
    with show_elapsed("building"), Runner(file, request) as runner:
        engine, gpu = _engine_used(runner), runner.run_report.gpu
    found = "built" if engine.built else "found, built earlier"
    typer.echo(f"{found} in {engine.seconds:.1f} s: engine {engine.key[:16]} for {gpu}")


def _engine_used(runner: "Runner") -> "EngineUsed":
    engine = runner.run_report.engine
    assert engine is not None, "a session on TensorRT has an engine"  # noqa: S101  # what Runner promises
    return engine
