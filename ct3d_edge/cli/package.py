"""``ct3d-edge package``: a folder from which a model server loads a model."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ct3d_edge.cli.options import ModelOption, resolve_model_path


def package(
    model: ModelOption = None,
    *,
    server: Annotated[
        Literal["triton", "ovms", "kserve"],
        typer.Option("--for", help="Triton, OpenVINO Model Server, or KServe with Triton."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write; it must not hold files.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Of the model in requests; its file name without ending if left out.")
    ] = None,
    device: Annotated[
        Literal["cpu", "gpu"] | None,
        typer.Option("--device", help="Where the server runs it; what the file was made for if left out."),
    ] = None,
    threads: Annotated[
        int, typer.Option("--threads", min=0, help="Threads of a run on the CPU; 0: ONNX Runtime decides.")
    ] = 0,
) -> None:
    """Write a model repository for Triton, OVMS or KServe.

    It has the model, its configuration, labels, the golden input as warm-up request, and a README with a call and the
    output to expect. The golden test must pass here first (exit code 4). A file exported with --embed-preprocessing
    takes scans as they are stored, so the server needs no preprocessing.
    """
    from ct3d_edge.model_repository.package import package_model

    made = package_model(resolve_model_path(model), out, server, name=name, device=device, threads=threads)
    typer.echo(f"wrote {made.folder}: model '{made.name}' for {server}; {made.folder / 'README.md'} has a call to try")
