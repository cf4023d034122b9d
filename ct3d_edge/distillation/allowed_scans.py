"""Which scans a student may learn from: never those that a teacher is tested on."""

from collections.abc import Collection
from pathlib import Path

from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.evaluation.classifier import RUN_SPLIT, run_of
from ct3d_edge.splits.split import Split
from ct3d_edge.splits.split_file import read_split

NAMED = 10
"""Scans that a message lists."""


def find_run_with_split(teacher: Path) -> Path | None:
    """The training run that a teacher is, or is in, if it has a split file; else None."""
    folder = run_of(teacher)
    return folder if folder is not None and (folder / RUN_SPLIT).is_file() else None


def find_folder(split: Path | None) -> Path:
    """The folder that a split file is in, if it is that of its scans.

    Raises
    ------
    UsageError
        If it is not, or there is no split file.
    """
    if split is not None and all((split.parent / name).is_dir() for name in read_split(split).classes):
        return split.parent
    raise UsageError("Name the folder with the two class folders: ct3d-edge distill RUN DIR --out SMALL.")


def require_test_scans(split: Split | None) -> None:
    """Make sure that student and teacher can be compared on scans of both classes that neither saw.

    Raises
    ------
    UsageError
        If they cannot.
    """
    if split is None or not all(split.count("test", label) for label in split.classes):
        raise UsageError(
            "Student and teacher are compared on test scans of both classes, and the split has none. Give one with a "
            "test subset (`split=`): ct3d-edge data split DIR --out split.json --test 0.25"
        )


def require_unseen_test_scans(split: Split, tested: Collection[str]) -> None:
    """Make sure that no test scan of the teacher trains or validates the student.

    Parameters
    ----------
    tested
        Content hashes of the teacher's test scans.

    Raises
    ------
    DatasetError
        Naming those that would.
    """
    seen = [entry.path for entry in split.train + split.validation if entry.sha256 in tested]
    if seen:
        named = "".join(f"\n  {path}" for path in seen[:NAMED])
        raise DatasetError(
            f"Test scans of the teacher among those to train or validate on: {len(seen)} (same content). Neither "
            f"network could be tested on them: give the teacher's split, or remove:{named}"
        )
