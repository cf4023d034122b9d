"""Options of the commands that open a session: provider, threads, tuned choice, scans side by side."""

from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.providers.names import RequestedProvider

if TYPE_CHECKING:
    from ct3d_edge.inference.config import InferenceConfig

WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Scans worked on at the same time; from cores and memory if left out."),
]
BatchSizeOption = Annotated[
    int, typer.Option("--batch-size", min=1, help="Scans in one run of the network; more than 1 helps on a GPU only.")
]
ScanMemoryOption = Annotated[
    str | None,
    typer.Option("--max-memory", help="What the scans in flight may take, e.g. 2GB; else half of what is free."),
]
ScanTimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--scan-timeout", min=0.001, help="Seconds after which a scan is given up and named; never if left out."
    ),
]


IgnoreTuningOption = Annotated[
    bool, typer.Option("--ignore-tuning", help="Run the model as given, though `tune` left a choice beside it.")
]


def inference_config(
    provider: RequestedProvider,
    allow_fallback: bool = False,
    provider_option: list[str] | None = None,
    device_id: int | None = None,
    *,
    no_build: bool = False,
    no_tuned: bool = False,
    gradcam: bool = False,
    allow: list[str] | None = None,
    include_phi: bool = False,
) -> "InferenceConfig":
    """The settings of inference from options of the command line."""
    from ct3d_edge.inference.config import InferenceConfig

    return InferenceConfig(
        provider,
        allow_fallback=allow_fallback,
        provider_options=tuple(provider_option or ()),
        device_id=device_id,
        build=not no_build,
        use_tuning=not no_tuned,
        gradcam=gradcam,
        allow=frozenset(allow or ()),
        include_phi=include_phi,
    )
