"""``ct3d-edge doctor``: test the providers on this machine and suggest repairs."""

import json
from typing import TYPE_CHECKING

import typer

from ct3d_edge.cli.options import JsonOption
from ct3d_edge.errors import ProviderError
from ct3d_edge.formatting import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from ct3d_edge.doctor.diagnosis import SystemReport
    from ct3d_edge.doctor.smoke_test_process import ProviderStatus

PIP_COMMAND_PREFIX = "pip "
"""Part of each line that contains a command."""


def doctor(json_: JsonOption = False) -> None:
    """Test every provider on this machine and suggest repairs.

    Each runs a tiny three-dimensional network. Nothing is installed or changed. Exit code 3 if no provider works.
    """
    from ct3d_edge.cli.logs import stderr_console
    from ct3d_edge.cli.terminal import print_lines, stdout_console
    from ct3d_edge.doctor.diagnosis import check_system
    from ct3d_edge.formatting import printable

    with stderr_console().status("trying providers") as status:
        diagnosis = check_system(on_provider=lambda name: status.update(f"trying {name}"))
    if json_:
        typer.echo(json.dumps(diagnosis.to_dict(), indent=2))
    else:
        stdout_console().print(_provider_table(diagnosis))
        for line in _lines(diagnosis):
            if PIP_COMMAND_PREFIX in line:  # to be copied whole
                typer.echo(printable(line))
            else:
                print_lines([line])
    if not diagnosis.working_providers:
        raise typer.Exit(ProviderError.exit_code)


def _provider_table(diagnosis: "SystemReport") -> "Table":
    from ct3d_edge.report.table import make_plain_table

    table = make_plain_table("provider", "compiled in", "loadable", "runs 3D", "session and run")
    for trial in diagnosis.provider_statuses:
        took = f"{trial.milliseconds:.0f} ms" if trial.milliseconds is not None else ""
        table.add_row(trial.name, *map(_yes_no, (trial.compiled_in, trial.loadable, trial.runs)), took)
    return table


def _lines(diagnosis: "SystemReport") -> "Iterator[str]":
    """The lines below the table."""
    for trial in diagnosis.provider_statuses:
        yield from _provider_issue_lines(trial)
    yield f"auto takes: {_describe_auto_provider(diagnosis)}"
    owners = [f"{name} {version}" for name, version in diagnosis.installation.distributions]
    yield f"onnxruntime: {', '.join(owners) or 'none'}"
    features = diagnosis.features
    instructions = (
        "unknown" if features is None else ", ".join(f"{name} {_yes_no(there)}" for name, there in features.items())
    )
    yield f"CPU: {diagnosis.cpu or 'unknown'}; {instructions}"
    limit = f"container limit {diagnosis.quota:g}" if diagnosis.quota else "no container limit"
    yield f"cores: {diagnosis.cores_usable} usable of {diagnosis.cores_present}; {limit}"
    if diagnosis.memory is not None:
        yield f"memory: {format_bytes(diagnosis.memory)} available"
    yield from diagnosis.advice()


def _provider_issue_lines(trial: "ProviderStatus") -> "Iterator[str]":
    if trial.runs:
        return
    yield f"{trial.name}: {trial.detail}"
    if trial.missing:
        yield f"  missing: {', '.join(trial.missing)}"
    for mismatch in trial.mismatches:
        yield f"  another version: {mismatch}"
    if trial.remedy:
        yield f"  would help: {trial.remedy}"


def _describe_auto_provider(diagnosis: "SystemReport") -> str:
    if len(diagnosis.auto_providers) > 1:
        first, second = diagnosis.auto_providers
        return f"{first} for a model whose engine is built (ct3d-edge build --provider {first}), else {second}"
    return "".join(diagnosis.auto_providers) or "nothing, no provider works here"


def _yes_no(there: bool) -> str:
    return "yes" if there else "no"
