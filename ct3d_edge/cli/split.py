"""``ct3d-edge data split``: a folder of scans becomes a split on record."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import plural

if TYPE_CHECKING:
    from ct3d_edge.cohort import Split


def split(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with two folders of scans, one a class.")],
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
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be read.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
) -> None:
    """Divide the scans in DIR for training, validation and test.

    By content, so that none stands on two sides.
    """
    from ct3d_edge.atomic import require_writable
    from ct3d_edge.cli.terminal import Bars, print_lines
    from ct3d_edge.cohort import split_folder, write_split

    if out.exists() and not force:
        raise UsageError(f"{out} exists, and models may have been trained by it. Name another file, or add --force.")
    require_writable(out)
    with Bars() as bars:
        made = split_folder(
            folder,
            seed=seed,
            validation=validation,
            test=test,
            folds=folds,
            patients=patients,
            skip_bad=skip_bad,
            on_hashed=lambda event: bars.show("Hashing", event.done, event.total),
        )
    write_split(out, made)
    title = f"{out}: {plural(len(made.entries), 'scan')}, seed {seed}"
    print_lines([title, *describe(made)])


def describe(split: "Split") -> list[str]:
    """The shares that each class really got, and every file that takes no part, as lines."""
    lines = [_shares(split, label) for label in split.classes]
    if split.folds is not None:
        lines += [f"folds of {label}: {_folds(split, label)}" for label in split.classes]
    patients = {entry.patient for entry in split.entries} - {None}
    lines += [f"{plural(len(patients), 'patient')}, each on one side"] if patients else []
    lines += [f"duplicate: {file.path} has the content of {file.of}" for file in split.duplicates]
    return lines + [f"left out: {scan.path}: {scan.reason}" for scan in split.left_out]


def _shares(split: "Split", label: str) -> str:
    from ct3d_edge.cohort import SUBSETS

    counts = {name: split.count(name, label) for name in SUBSETS}
    total = max(sum(counts.values()), 1)
    return f"{label}: " + ", ".join(f"{n} {name} ({n / total:.1%})" for name, n in counts.items())


def _folds(split: "Split", label: str) -> str:
    folds = [entry.fold for entry in split.entries if entry.label == label]
    return ", ".join(str(folds.count(number)) for number in range(split.folds or 0))
