"""Which scans teach and which ones judge: a stratified split that depends on the seed and the paths alone."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.scan import find_scans

SCHEMA = 1
"""Version of the JSON form; raised when the meaning of a field changes."""

VALIDATION_FRACTION = 0.3
"""The published tutorial trains on 70 and validates on 30 of 100 scans of each class."""

CLASS_COUNT = 2


@dataclass(frozen=True)
class Split:
    """A folder of scans, divided.

    Parameters
    ----------
    classes
        Names of the class folders in the order of the labels 0 and 1.
    seed
        What the division was drawn with.
    validation_fraction
        Share of each class that was asked for; the nearest whole number of scans was taken.
    train, validation
        Paths relative to the folder, with forward slashes; the first part is the class. Sorted.
    """

    classes: tuple[str, ...]
    seed: int
    validation_fraction: float
    train: tuple[str, ...]
    validation: tuple[str, ...]

    @property
    def scans(self) -> tuple[str, ...]:
        """All scans, those for training first."""
        return self.train + self.validation

    def label_of(self, scan: str) -> int:
        """Index of the class that a relative path belongs to."""
        return self.classes.index(scan.partition("/")[0])

    def to_json(self) -> str:
        """JSON for people to read and programs to compare: one path a line, schema version included."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1) + "\n"


def split_folder(folder: Path, *, seed: int = 0, validation: float = VALIDATION_FRACTION) -> Split:
    """Divide the scans in the class subfolders of ``folder``.

    Each class gives its share to both sides. The same seed and the same relative paths give the same split on
    any machine, in whatever order the file system lists them.

    Parameters
    ----------
    folder
        Holds two subfolders, one a class; the scans in them are found recursively. Class order is that of the
        names, except that a folder called ``normal`` comes first. Hidden folders do not count.
    seed
        Draws another split.
    validation
        Share of each class kept for validation, between 0 and 1.

    Raises
    ------
    UsageError
        If ``validation`` is not between 0 and 1.
    DatasetError
        If ``folder`` is no folder, has not exactly two class folders, or a class has fewer than two scans.
    """
    if not 0 < validation < 1:
        raise UsageError(f"The validation fraction must lie between 0 and 1, found {validation}.")
    classes = _class_names(folder)
    train: list[str] = []
    judge: list[str] = []
    for name in classes:
        scans = _shuffled(_scans_of_class(folder, name), seed)
        kept = min(max(round(len(scans) * validation), 1), len(scans) - 1)
        judge += sorted(scans[:kept])
        train += sorted(scans[kept:])
    return Split(classes, seed, validation, tuple(train), tuple(judge))


def _class_names(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise DatasetError(f"{folder} is {'not a folder' if folder.exists() else 'not there'}.")
    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    names.sort(key=lambda name: (name.casefold() != "normal", name))
    if len(names) != CLASS_COUNT:
        found = ", ".join(names) or "none"
        raise DatasetError(
            f"{folder} must hold exactly {CLASS_COUNT} folders, one a class; found {len(names)}: {found}."
        )
    return tuple(names)


def _scans_of_class(folder: Path, name: str) -> list[str]:
    try:
        found = find_scans([folder / name])
    except UsageError:  # it holds none
        found = []
    if len(found) < 2:
        raise DatasetError(
            f"Class {name} has {len(found)} scan(s) under {folder / name}; at least 2 are needed, "
            "one for training and one for validation."
        )
    return [path.relative_to(folder).as_posix() for path in found]


def _shuffled(scans: list[str], seed: int) -> list[str]:
    """Order scans by their hashes: unlike a random generator's order, no library version can change it."""
    return sorted(scans, key=lambda scan: hashlib.sha256(f"{seed}\n".encode() + os.fsencode(scan)).digest())
