"""Options of the commands that rewrite a graph, and what they print of it."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ct3d_edge.conversion import Exported

LevelOption = Annotated[
    Literal["none", "exact", "fast"],
    typer.Option(
        "--optimize",
        "-O",
        help="exact: folds and shortens; fast: also puts 3D operators in the form that the device runs fastest.",
    ),
]
TargetOption = Annotated[
    Literal["cpu", "cuda", "tensorrt", "no-conv3d"],
    typer.Option(help="Device class; cuda and tensorrt keep 3D operators, no-conv3d leaves none in the file."),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at a pass that fails instead of leaving it out.")]


def report(exported: "Exported") -> None:
    """Passes, proof and file on standard output."""
    model = exported.model
    for line in pass_lines(model.provenance.get("passes", [])):
        typer.echo(line)
    typer.echo(f"proof: {exported.proof.describe()}")
    typer.echo(f"wrote {model.path} ({len(model.data) / 1e6:.1f} MB, {model.nodes} nodes)")


def pass_lines(steps: list[dict[str, object]]) -> list[str]:
    """One line a pass of a provenance: nodes before and after, rewrites, and whether it failed."""
    width = max((len(str(step["name"])) for step in steps), default=0)
    return [
        f"pass {step['name']:<{width}}  {step['before']:>3} -> {step['after']:>3} nodes, {step['rewrites']} rewrites"
        + (f"; left out: {step['failure']}" if step.get("failure") else "")
        for step in steps
    ]
