"""The split of a folder of scans: which ones train, which ones validate, which ones test."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal, get_args

import msgspec
from msgspec import Struct

from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.json_validation import Sha256, Text

Subset = Literal["train", "validation", "test"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)


class SplitEntry(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, rename={"label": "class"}):
    """One scan of a split.

    Parameters
    ----------
    path
        Relative to the data folder, with forward slashes; the first part is the class folder.
    label
        Name of the class folder.
    sha256
        Of the file's bytes; of several files, see `content_sha256`.
    subset
        Which of the three it belongs to.
    fold
        Counted from 0; None without folds and in the test subset.
    patient
        Whose scan it is; None if that is unknown.
    """

    path: Text
    label: Text
    sha256: Sha256
    subset: Subset
    fold: int | None = None
    patient: Text | None = None


class Duplicate(Struct, frozen=True, forbid_unknown_fields=True):
    """A file with the same content as the entry ``of``; it is not used."""

    path: Text
    of: Text


class ExcludedScan(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A scan that cannot be used; ``sha256`` is None if not even its bytes can be read."""

    path: Text
    code: Text
    reason: Text
    sha256: Text | None = None


@dataclass(frozen=True)
class Split:
    """A folder of scans, divided so that neither content nor patient is in two subsets.

    Parameters
    ----------
    classes
        Names of the class folders in the order of the labels 0 and 1.
    seed
        Of the random division.
    validation_fraction, test_fraction
        Share of each class that was asked for.
    folds
        How many; None without folds.
    entries
        Every scan that is used, by class, then path.
    duplicates, left_out
        Files that are not, by path.

    Raises
    ------
    DatasetError
        If the parts contradict each other, as they may in a file that was edited.
    """

    classes: tuple[str, ...]
    seed: int
    validation_fraction: float
    test_fraction: float
    folds: int | None
    entries: tuple[SplitEntry, ...]
    duplicates: tuple[Duplicate, ...] = ()
    left_out: tuple[ExcludedScan, ...] = ()

    def __post_init__(self) -> None:
        for contradiction in _contradictions(self):
            raise DatasetError(f"The split contradicts itself: {contradiction}.")

    @property
    def train(self) -> tuple[SplitEntry, ...]:
        """Scans that the weights are fitted to."""
        return self.subset("train")

    @property
    def validation(self) -> tuple[SplitEntry, ...]:
        """Scans that choose among weights, thresholds and the like."""
        return self.subset("validation")

    @property
    def test(self) -> tuple[SplitEntry, ...]:
        """Scans that training never reads."""
        return self.subset("test")

    @property
    def paths(self) -> tuple[str, ...]:
        """Every file of the split, used or not."""
        parts = (self.entries, self.duplicates, self.left_out)
        return tuple(file.path for files in parts for file in files)

    def subset(self, name: Subset) -> tuple[SplitEntry, ...]:
        """Scans of one subset, by class, then path."""
        return tuple(entry for entry in self.entries if entry.subset == name)

    def label_of(self, entry: SplitEntry) -> int:
        """Index of the class that a scan belongs to."""
        return self.classes.index(entry.label)

    def count(self, subset: Subset, label: str) -> int:
        """Scans of one class in one subset."""
        return sum(entry.label == label for entry in self.subset(subset))

    def for_fold(self, fold: int) -> "Split":
        """The same scans with one fold as validation and the others as training; the test subset stays.

        Raises
        ------
        UsageError
            If the split has no such fold.
        """
        if self.folds is None or not 0 <= fold < self.folds:
            has = "no folds" if self.folds is None else f"folds 0 to {self.folds - 1}"
            raise UsageError(f"There is no fold {fold}: the split has {has}.")
        return replace(self, entries=tuple(_in_fold(entry, fold) for entry in self.entries))

    def without(self, unusable: Sequence[ExcludedScan]) -> "Split":
        """The split without scans that turned out to be unusable; they move to ``left_out``."""
        gone = {scan.path for scan in unusable}
        left_out = tuple(sorted({*self.left_out, *unusable}, key=lambda scan: scan.path))
        return replace(self, entries=tuple(e for e in self.entries if e.path not in gone), left_out=left_out)


def require_every_class(split: Split) -> None:
    """Make sure that a network can learn and be chosen on this split.

    Raises
    ------
    DatasetError
        If a class has no scan for training or for validation.
    """
    for label in split.classes:
        counts = {name: split.count(name, label) for name in SUBSETS}
        if not (counts["train"] and counts["validation"]):
            found = ", ".join(f"{count} for {name}" for name, count in counts.items())
            raise DatasetError(f"Class {label} needs scans for both training and validation; the split has {found}.")


def _in_fold(entry: SplitEntry, fold: int) -> SplitEntry:
    if entry.subset == "test":
        return entry
    return msgspec.structs.replace(entry, subset="validation" if entry.fold == fold else "train")


def _contradictions(split: Split) -> Iterator[str]:
    """Sentences on everything that a reader of the split relies on and that does not hold."""
    entries = split.entries
    yield from (f"{path} stands in it twice" for path in _repeated(split.paths))
    yield from (f"{path!r} is no path inside the class folders" for path in _paths_outside_classes(split))
    known = {entry.path for entry in entries} | {scan.path for scan in split.left_out}
    yield from (f"{d.path} repeats {d.of}, which is not in it" for d in split.duplicates if d.of not in known)
    yield from (f"two scans have the content {sha}" for sha in _repeated([entry.sha256 for entry in entries]))
    for entry in entries:
        in_range = entry.fold is not None and split.folds is not None and 0 <= entry.fold < split.folds
        if not (entry.fold is None if split.folds is None or entry.subset == "test" else in_range):
            yield f"{entry.path} ({entry.subset}) has fold {entry.fold} of {split.folds or 'none'}"
    subsets = {(entry.patient, entry.subset) for entry in entries if entry.patient is not None}
    yield from (f"patient {name} is in two subsets" for name in _repeated([patient for patient, _ in subsets]))
    folds = {(entry.patient, entry.fold) for entry in entries if entry.patient is not None}
    yield from (f"patient {name} is in two folds" for name in _repeated([patient for patient, _ in folds]))


def _paths_outside_classes(split: Split) -> Iterator[str]:
    """Paths that lead out of the folder or do not begin with their class."""
    label_of = {entry.path: entry.label for entry in split.entries}
    for path in split.paths:
        parts = PurePosixPath(path).parts
        inside = len(parts) > 1 and ".." not in parts and parts[0] in split.classes
        if not inside or label_of.get(path, parts[0]) != parts[0]:
            yield path


def _repeated(names: Sequence[str | None]) -> list[str]:
    return sorted(str(name) for name, count in Counter(names).items() if count > 1)
