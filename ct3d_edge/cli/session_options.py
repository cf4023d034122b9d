"""Options of the commands that open a session: provider, threads, tuned choice, scans side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.cli.options import provider_options
from ct3d_edge.providers.names import RequestedProvider

if TYPE_CHECKING:
    from ct3d_edge.inference.config import InferenceConfig
    from ct3d_edge.providers.options import Options
    from ct3d_edge.tuning.cache import ActiveTuning

WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Scans worked on at the same time; from cores and memory if left out."),
]
BatchOption = Annotated[
    int, typer.Option("--batch-size", min=1, help="Scans in one run of the network; more than 1 helps on a GPU only.")
]
BudgetOption = Annotated[
    str | None,
    typer.Option("--max-memory", help="What the scans in flight may take, e.g. 2GB; else half of what is free."),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--scan-timeout", min=0.001, help="Seconds after which a scan is given up and named; never if left out."
    ),
]


NoTunedOption = Annotated[
    bool, typer.Option("--ignore-tuning", help="Run the model as given, though `tune` left a choice beside it.")
]


def find_tuned_choice(
    model: Path, requested: RequestedProvider, device_id: int | None = None, *, no_tuned: bool
) -> "ActiveTuning | None":
    """The choice beside a model, if it holds here; otherwise a line on standard error says why not."""
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.session.provider_selection import find_expected_provider
    from ct3d_edge.tuning.cache import load_tuning, tuning_path

    found = None if no_tuned else load_tuning(model, requested, device_id or 0)
    if found is None:
        return None
    name = tuning_path(model, find_expected_provider(requested)).name
    if isinstance(found, str):
        log(f"{name} is left aside: {found}; tune again, or --ignore-tuning")
        return None
    log(
        f"tuned: {found.choice.candidate.name} on {found.choice.key.provider}, from {name}; "
        "--ignore-tuning runs it as given"
    )
    if found.choice.lowers_precision:
        log(f"tuned: {found.choice.describe_precision()}")
    return found


def tuned_options(
    tuned: "ActiveTuning | None", requested: RequestedProvider, texts: list[str] | None, device_id: int | None
) -> "Options | None":
    """Options of the user, who wins, and those of the choice where the user says nothing."""
    if tuned is None or (texts and requested == "auto"):
        return provider_options(requested, texts, device_id)
    given = texts or []
    named = {text.partition("=")[0].strip() for text in given}
    chosen = [f"{key}={value}" for key, value in tuned.choice.candidate.options if key not in named]
    if not chosen and not given and requested == "auto":
        return None
    # Beside auto, --device-id is for those that have devices to choose from.
    device = None if requested == "auto" and tuned.choice.key.provider == "cpu" else device_id
    return provider_options(tuned.choice.key.provider, [*given, *chosen], device)


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
    from ct3d_edge.quality_control.check_registry import require_downgradable

    return InferenceConfig(
        provider,
        allow_fallback=allow_fallback,
        provider_options=tuple(provider_option or ()),
        device_id=device_id,
        build=not no_build,
        use_tuning=not no_tuned,
        gradcam=gradcam,
        allow=require_downgradable(allow or ()),
        include_phi=include_phi,
    )
