"""The scans that a model is evaluated on, and whether it was trained on some of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.evaluation.classifier import RUN_SPLIT
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.splits.folder import folder_as_test_set, verify_folder
from ct3d_edge.splits.split import SUBSETS, ExcludedScan, Split, SplitEntry, Subset
from ct3d_edge.splits.split_file import read_split


@dataclass(frozen=True)
class TestSet:
    """Scans of known class.

    Parameters
    ----------
    folder
        What the paths in ``split`` are relative to.
    split
        As checked against the folder.
    split_file
        Its file; None if the whole folder is the test set.
    subset
        Its part that is used.
    left_out
        Scans of this part whose bytes cannot be read.
    """

    folder: Path
    split: Split
    split_file: Path | None
    subset: Subset
    left_out: tuple[ExcludedScan, ...]

    @property
    def entries(self) -> tuple[SplitEntry, ...]:
        """The scans, by class, then path."""
        return self.split.subset(self.subset)


@dataclass(frozen=True)
class TestSetChoice:
    """The choice of scans, before any of them is opened; ``split`` is None if it is the whole folder."""

    folder: Path
    split_file: Path | None
    split: Split | None
    subset: Subset


def choose_test_set(folder: Path | None, split_file: Path | None, subset: Subset | None = None) -> TestSetChoice:
    """Choose the scans.

    Parameters
    ----------
    folder
        With two class folders; None if the split file is beside them.
    split_file
        None to take the whole folder as a test set.
    subset
        Of the split file; the test subset if None.

    Raises
    ------
    UsageError
        If the arguments do not name the scans, or a subset is named without a split.
    DatasetError
        If the split cannot be read, or a class has no scan in the subset.
    """
    if split_file is None:
        if subset is not None:
            raise UsageError("A subset belongs to a split: give that as well (`split=split.json`).")
        if folder is None:
            raise UsageError("Name the folder with the two class folders, and `split=` for a part of it.")
        return TestSetChoice(folder, None, None, "test")
    split = read_split(split_file)
    choice = TestSetChoice(folder or _folder_beside(split_file, split), split_file, split, subset or "test")
    _require_classes(split, choice.subset, split_file)
    return choice


def find_test_set(choice: TestSetChoice, *, skip_bad: bool = False, progress: Progress = no_progress) -> TestSet:
    """Find the chosen scans and compare them with the split.

    Parameters
    ----------
    skip_bad
        Leave out scans whose bytes cannot be read.
    progress
        Called after each scan.

    Raises
    ------
    DatasetError
        If split and folder do not fit, a class has no scan, or scans cannot be read.
    """
    folder, subset = choice.folder, choice.subset
    if choice.split is None:
        found = folder_as_test_set(folder, skip_bad=skip_bad, progress=progress)
        unreadable = found.left_out
    else:
        found = verify_folder(choice.split, folder, (subset,), skip_bad=skip_bad, progress=progress)
        unreadable = tuple(scan for scan in found.left_out if scan not in choice.split.left_out)
    _require_classes(found, subset, choice.split_file or folder)
    return TestSet(folder, found, choice.split_file, subset, unreadable)


def class_mapping(test_set: TestSet, contract: Contract) -> tuple[tuple[str, str], ...]:
    """Class folders and their labels; see `map_classes`."""
    return map_classes(test_set.split.classes, contract)


def map_classes(classes: Sequence[str], contract: Contract) -> tuple[tuple[str, str], ...]:
    """Class folders and their labels, by order, as in training.

    Raises
    ------
    DatasetError
        If a folder has the name of the other label.
    """
    pairs = tuple(zip(classes, contract.labels, strict=True))
    known = {label.casefold(): label for label in contract.labels}
    for name, label in pairs:
        if known.get(name.casefold(), label) != label:
            raise DatasetError(
                f"The class folder {name} would count as {label!r}, the model's other class: folders are taken in "
                f"alphabetical order with normal first, labels in the model's ({', '.join(contract.labels)}). "
                "Rename the folders."
            )
    return pairs


def check_leakage(test_set: TestSet, run: Path | None) -> tuple[str, ...]:
    """Warn of scans that the model was trained or selected on, according to the split of its run.

    Parameters
    ----------
    run
        Folder of the training run; None if the model is no run.

    Raises
    ------
    DatasetError
        If the run's split cannot be read.
    """
    if run is None or not (run / RUN_SPLIT).is_file():
        return ()
    own, total = run / RUN_SPLIT, len(test_set.entries)
    warnings = [
        f"{count} of the {total} scans are {name} scans of this model (same content, {own}). This is no test."
        for name, count in count_leaked_scans(test_set, run).items()
        if count and test_set.subset == "test"
    ]
    if test_set.split_file is None:
        warnings.append(
            f"{run} holds the split that it was trained on. To evaluate its test subset, give that split: {own}"
        )
    return tuple(warnings)


def count_leaked_scans(test_set: TestSet, run: Path | None) -> dict[str, int]:
    """How many of the scans are training or validation scans of a run, by its split; compared by content.

    Raises
    ------
    DatasetError
        If the split of the run cannot be read.
    """
    if run is None or not (run / RUN_SPLIT).is_file():
        return {"training": 0, "validation": 0}
    known, hashes = read_split(run / RUN_SPLIT), hash_test_set(test_set.entries)
    subsets = {"training": known.train, "validation": known.validation}
    return {name: len(hashes & hash_test_set(entries)) for name, entries in subsets.items()}


def hash_test_set(entries: tuple[SplitEntry, ...]) -> set[str]:
    """Content hashes of the scans."""
    return {entry.sha256 for entry in entries}


def _folder_beside(split_file: Path, split: Split) -> Path:
    folder = split_file.parent
    if not all((folder / name).is_dir() for name in split.classes):
        raise UsageError(
            f"{split_file} names scans relative to the folder that it was made from, and is not in that folder. "
            "Name the folder, too: ct3d-edge evaluate --model MODEL DIR --split split.json"
        )
    return folder


def _require_classes(split: Split, subset: Subset, named: Path) -> None:
    """Called before anything is opened, and again without unreadable scans."""
    counts = {label: split.count(subset, label) for label in split.classes}
    if all(counts.values()):
        return
    found = ", ".join(f"{count} of {label}" for label, count in counts.items())
    others = ", ".join(f"{len(split.subset(name))} {name}" for name in SUBSETS)
    raise DatasetError(
        f"The {subset} subset of {named} needs scans of both classes; it has {found} (in all: {others}). "
        "To divide the folder again: ct3d-edge data split DIR --out split.json --test 0.15"
    )
