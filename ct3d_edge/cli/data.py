"""``ct3d-edge data``: making scans."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make phantom scans.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Make phantom scans."""


@app.command()
def synth(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")],
    scans: Annotated[int, typer.Option("--scans", "-n", min=1, help="How many; every second one is abnormal.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scans.")] = 0,
    shape: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Voxels along x, y, z; 512 x 512 x (30 to 60) if left out.", metavar="X Y Z"),
    ] = None,
) -> None:
    """Make procedural chest CTs: OUT/scans/normal, OUT/scans/abnormal, and lesion masks in OUT/lesions."""
    from ct3d_edge.cli.terminal import progress, say
    from ct3d_edge.datasets import synthesise

    with progress(scans, "Phantoms") as advance:
        written = synthesise(out, scans, seed, shape=shape, on_scan=lambda _: advance())
    say(f"wrote {len(written)} phantom scans to {out / 'scans'}")
