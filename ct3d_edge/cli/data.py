"""``ct3d-edge data``: synthesise scans, fetch published ones, split a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ct3d_edge.cli.click_extras import StrictCommand, StrictGroup, example_of
from ct3d_edge.cli.options import ClassFoldersArgument
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import plural

if TYPE_CHECKING:
    from ct3d_edge.datasets.download import OnProgress
    from ct3d_edge.splits.split import Split


def split(
    folder: ClassFoldersArgument,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the split, as JSON.")],
    validation: Annotated[float, typer.Option("--validation", help="Share of each class for validation.")] = 0.15,
    test: Annotated[float, typer.Option("--test", help="Share of each class for the test; 0 for none.")] = 0.15,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws another split.")] = 0,
    folds: Annotated[
        int | None, typer.Option("--folds", metavar="K", help="Also K folds over all that is not test.")
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option("--patients", metavar="CSV", help="Columns scan and patient: a patient stays on one side."),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-invalid", help="Leave out files that cannot be read.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
) -> None:
    """Divide the scans in DIR for training, validation and test.

    By content, so that none stands on two sides.
    """
    from ct3d_edge.cli.terminal import ProgressBars, print_lines
    from ct3d_edge.splits.create import create_split
    from ct3d_edge.splits.split_file import write_split
    from ct3d_edge.system.atomic_write import require_writable

    if out.exists() and not force:
        raise UsageError(f"{out} exists, and models may have been trained by it. Name another file, or add --force.")
    require_writable(out)
    with ProgressBars() as progress:
        new = create_split(
            folder,
            seed=seed,
            validation=validation,
            test=test,
            folds=folds,
            patients=patients,
            skip_bad=skip_bad,
            progress=progress,
        )
    write_split(out, new)
    title = f"{out}: {plural(len(new.entries), 'scan')}, seed {seed}"
    print_lines([title, *describe_dataset(new)])


def describe_dataset(split: "Split") -> list[str]:
    """The shares that each class really got, and every file that takes no part, as lines."""
    lines = [_shares(split, label) for label in split.classes]
    if split.folds is not None:
        lines += [f"folds of {label}: {_folds(split, label)}" for label in split.classes]
    patients = {entry.patient for entry in split.entries} - {None}
    lines += [f"{plural(len(patients), 'patient')}, each on one side"] if patients else []
    lines += [f"duplicate: {file.path} has the content of {file.of}" for file in split.duplicates]
    return lines + [f"left out: {scan.path}: {scan.reason}" for scan in split.left_out]


def _shares(split: "Split", label: str) -> str:
    from ct3d_edge.splits.split import SUBSETS

    counts = {name: split.count(name, label) for name in SUBSETS}
    total = max(sum(counts.values()), 1)
    return f"{label}: " + ", ".join(f"{n} {name} ({n / total:.1%})" for name, n in counts.items())


def _folds(split: "Split", label: str) -> str:
    folds = [entry.fold for entry in split.entries if entry.label == label]
    return ", ".join(str(folds.count(number)) for number in range(split.folds or 0))


app = typer.Typer(
    help="Make phantom scans, fetch published ones.",
    cls=StrictGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=example_of("data"),
)
app.command(name="split", cls=StrictCommand, epilog=example_of("data split"))(split)


@app.callback()
def _group() -> None:
    """Make phantom scans, fetch published ones."""


@app.command(cls=StrictCommand, epilog=example_of("data synth"))
def synth(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")],
    scans: Annotated[int, typer.Option("--num-scans", "-n", min=1, help="How many; every second one is abnormal.")] = 6,
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
    from ct3d_edge.cli.terminal import log, report_progress
    from ct3d_edge.datasets.phantoms.phantom import synthesise

    if not force and out.is_dir() and any(out.iterdir()):
        raise UsageError(
            f"{out} holds files already, and two sets would be mixed. Name another folder, or add --force."
        )
    with report_progress(scans, "Phantoms") as advance:
        written = synthesise(out, scans, seed, shape=shape, on_scan=lambda _: advance())
    log(f"wrote {plural(len(written), 'phantom scan')} to {out / 'scans'}")


@app.command(cls=StrictCommand, epilog=example_of("data fetch"))
def fetch(
    dataset: Annotated[Literal["mosmed"], typer.Argument(help="mosmed: the 200 chest CTs of the published tutorial.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the scans, one folder a class.")],
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Leave the zip archives in DIR.")] = False,
) -> None:
    """Download and unpack published scans for training.

    `ct3d-edge train DIR` takes the folder. After a break, the same command goes on.
    """
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.datasets import fetch as mosmed

    archives = {"mosmed": mosmed.MOSMED}[dataset]
    log(f"MosMedData is published under {mosmed.LICENCE}: attribute it, no commercial use, share no derivatives")
    log(f"cite {mosmed.CITATION}")
    try:
        with _byte_bars() as show:
            records = mosmed.fetch(out, archives, keep_archives=keep_archives, on_progress=show)
    except KeyboardInterrupt:
        log("stopped; the same command goes on from here")
        raise
    log("complete: " + ", ".join(f"{plural(record.scans, 'scan')} in {out / name}" for name, record in records.items()))


@contextmanager
def _byte_bars() -> Iterator["OnProgress"]:
    """Yield a function that shows a bar for each step on a terminal, and nothing in a pipe."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from ct3d_edge.cli.logs import stderr_console

    console = stderr_console()
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bars = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal)
    tasks = {}

    def show(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = bars.add_task(step, total=total, completed=done)
        bars.update(tasks[step], completed=done)

    with bars:
        yield show
