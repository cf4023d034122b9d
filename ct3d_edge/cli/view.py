"""``ct3d-edge view``: a scan as the network sees it."""

from pathlib import Path
from typing import Annotated

import typer

from ct3d_edge.atomic import require_writable
from ct3d_edge.cli.options import ContractModelOption, contract_of


def view(
    scan: Annotated[Path, typer.Argument(help="A scan (.nii, .nii.gz, .hdr/.img).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="PNG to write.")],
    rows: Annotated[int, typer.Option(min=1, help="Of the grid of slices.")] = 4,
    columns: Annotated[int, typer.Option(min=1, help="Of the grid of slices.")] = 10,
    slice_: Annotated[
        int | None, typer.Option("--slice", help="One slice instead, counted from 0; -1 is the last.")
    ] = None,
    model: ContractModelOption = None,
) -> None:
    """Draw the slices of a scan after preprocessing, which is all that the network is given."""
    require_writable(out)
    from ct3d_edge.cli.terminal import say
    from ct3d_edge.preprocess import preprocess
    from ct3d_edge.report import one_slice, save_picture, slice_grid
    from ct3d_edge.scan import NiftiScan

    prepared = preprocess(NiftiScan(scan), contract_of(model))
    for finding in prepared.findings:
        say(f"{finding.code}: {finding.detail}")
    volume = prepared.volume
    save_picture(slice_grid(volume, rows, columns) if slice_ is None else one_slice(volume, slice_), out)
    say(f"wrote {out}")
