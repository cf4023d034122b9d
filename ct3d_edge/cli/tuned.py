"""How `infer` and `bench` follow what `tune` chose, and say so."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ct3d_edge.cli.options import provider_options
from ct3d_edge.provider_names import RequestedProvider

if TYPE_CHECKING:
    from ct3d_edge.runtime import Options
    from ct3d_edge.tuning import InUse

NoTunedOption = Annotated[
    bool, typer.Option("--no-tuned", help="Run the model as given, though `tune` left a choice beside it.")
]


def find_choice(
    model: Path, requested: RequestedProvider, device_id: int | None = None, *, no_tuned: bool
) -> "InUse | None":
    """The choice beside a model, if it holds here; otherwise a line on standard error says why not."""
    from ct3d_edge.cli.terminal import say
    from ct3d_edge.cli.tune_print import other_answers
    from ct3d_edge.runtime import expected_provider
    from ct3d_edge.tuning.lookup import kept_at, look_up

    found = None if no_tuned else look_up(model, requested, device_id or 0)
    if found is None:
        return None
    name = kept_at(model, expected_provider(requested)).name
    if isinstance(found, str):
        say(f"{name} is left aside: {found}; tune again, or --no-tuned")
        return None
    say(
        f"tuned: {found.choice.candidate.name} on {found.choice.key.provider}, from {name}; --no-tuned runs it as given"
    )
    if found.choice.fewer_bits:
        say(f"tuned: {other_answers(found.choice)}")
    return found


def tuned_options(
    tuned: "InUse | None", requested: RequestedProvider, texts: list[str] | None, device_id: int | None
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


def tuned_file(tuned: "InUse | None") -> dict[str, Any]:
    """The arguments of `load_model` for a choice."""
    return {"tuned_file": tuned.file, "choice": tuned.digest} if tuned else {}
