"""``ct3d-edge data``: making scans, and fetching published ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ct3d_edge.cli import split
from ct3d_edge.cli.examples import example
from ct3d_edge.cli.once import OnceCommand, OnceGroup
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import plural

if TYPE_CHECKING:
    from ct3d_edge.datasets.published.progress import Event, OnEvent

app = typer.Typer(
    help="Make phantom scans, fetch published ones.",
    cls=OnceGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=example("data"),
)
app.command(name="split", cls=OnceCommand, epilog=example("data split"))(split.split)


@app.callback()
def _group() -> None:
    """Make phantom scans, fetch published ones."""


@app.command(cls=OnceCommand, epilog=example("data synth"))
def synth(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")],
    scans: Annotated[int, typer.Option("--scans", "-n", min=1, help="How many; every second one is abnormal.")] = 6,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same scans.")] = 0,
    shape: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Voxels along x, y, z; 512 x 512 x (30 to 60) if left out.", metavar="X Y Z"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that holds files already.")] = False,
) -> None:
    """Make procedural chest CTs with masks of their lesions.

    They go to OUT/scans/normal and OUT/scans/abnormal, the masks to OUT/lesions.
    """
    from ct3d_edge.cli.terminal import progress, say
    from ct3d_edge.datasets import synthesise

    if not force and out.is_dir() and any(out.iterdir()):
        raise UsageError(
            f"{out} holds files already, and two sets would be mixed. Name another folder, or add --force."
        )
    with progress(scans, "Phantoms") as advance:
        written = synthesise(out, scans, seed, shape=shape, on_scan=lambda _: advance())
    say(f"wrote {plural(len(written), 'phantom scan')} to {out / 'scans'}")


@app.command(cls=OnceCommand, epilog=example("data fetch"))
def fetch(
    dataset: Annotated[Literal["mosmed"], typer.Argument(help="mosmed: the 200 chest CTs of the published tutorial.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the scans, one folder a class.")],
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Leave the zip archives in DIR.")] = False,
) -> None:
    """Download and unpack published scans for training.

    `ct3d-edge train DIR` takes the folder. After a break, the same command goes on.
    """
    from ct3d_edge.cli.terminal import say
    from ct3d_edge.datasets.published import mosmed
    from ct3d_edge.datasets.published.fetch import fetch as fetch_dataset

    chosen = {"mosmed": mosmed.MOSMED}[dataset]
    say(f"{chosen.name} is published under {chosen.licence}: attribute it, no commercial use, share no derivatives")
    say(f"cite {chosen.citation}")
    try:
        with _byte_bars() as show:
            fetched = fetch_dataset(chosen, out, keep_archives=keep_archives, on_event=show)
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        raise
    scans = ", ".join(f"{plural(record.scans, 'scan')} in {out / name}" for name, record in fetched.records.items())
    say(f"{'complete' if fetched.new else 'nothing to do, all of it was there'}: {scans}")


@contextmanager
def _byte_bars() -> Iterator["OnEvent"]:
    """Yield a function that shows bytes as bars on a terminal, not at all in a pipe, and notes as lines on both."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.text import Text

    from ct3d_edge.cli.logs import err
    from ct3d_edge.datasets.published.progress import Noted
    from ct3d_edge.formatting import printable

    console = err()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bars = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
    tasks = {}

    def show(event: "Event") -> None:
        if isinstance(event, Noted):
            console.print(Text(printable(event.text)))
            return
        if event.what not in tasks:
            tasks[event.what] = bars.add_task(event.what, total=event.total, completed=event.done)
        bars.update(tasks[event.what], completed=event.done)

    with bars:
        yield show
