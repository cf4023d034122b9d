"""From a folder to its split: stratified, seeded, by content, and by patient where a table names them."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.formatting import plural
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.scan.dicom.magic import series_of_scan
from ct3d_edge.splits.folder import (
    class_names,
    find_duplicates,
    hash_scans,
    refuse_unusable_scans,
    scans_of_class,
)
from ct3d_edge.splits.patients import read_patients, require_one_patient
from ct3d_edge.splits.split import Split, SplitEntry, Subset
from ct3d_edge.splits.stratify import Group, assign_groups, even_shares, whole_shares

VALIDATION_FRACTION = 0.3
"""The published tutorial trains on 70 and validates on 30 of 100 scans of each class."""


def create_split(
    folder: Path,
    *,
    seed: int = 0,
    validation: float = VALIDATION_FRACTION,
    test: float = 0.0,
    folds: int | None = None,
    patients: Path | None = None,
    skip_bad: bool = False,
    progress: Progress = no_progress,
) -> Split:
    """Divide the scans in the class subfolders of ``folder``.

    Each class gives its share to each subset: the nearest whole number of scans, one at least. The same seed,
    relative paths and contents give the same split on any machine, in whatever order the file system lists them.
    Files of the same content count once. A .hdr/.img pair is one scan. Passes of one DICOM series stay together.

    Parameters
    ----------
    folder
        Holds two subfolders, one a class; the scans in them are found recursively. Class order is that of the
        names, except that a folder called ``normal`` comes first. Hidden folders do not count. DICOM series are
        named as `find_scans` names them.
    seed
        Draws another split.
    validation, test
        Share of each class; with ``test`` 0 there is no such subset. Which scans are tested does not depend on
        ``validation`` as long as each scan stands for itself.
    folds
        Also divide everything that is not test into this many folds, for cross-validation.
    patients
        Table that names the patient of every scan, see `read_patients`. All scans of a patient stay together;
        shares are then as near as whole patients allow.
    skip_bad
        Leave out scans whose bytes cannot be read (missing half of a pair, empty, no permission).
    progress
        Called after each scan.

    Raises
    ------
    UsageError
        If a share or the number of folds is out of its range.
    DatasetError
        If ``folder`` is no folder or has not exactly two class folders, a class has too few scans or patients, the
        same content stands under two classes, the table does not fit, or scans cannot be read.
    """
    _require_ranges(validation, test, folds)
    classes = class_names(folder)
    scans = [scan for name in classes for scan in scans_of_class(folder, name)]
    table = read_patients(patients, scans) if patients is not None else None
    contents = hash_scans(folder, scans, progress)
    if not skip_bad:
        refuse_unusable_scans(contents.unreadable, len(scans))
    duplicates = find_duplicates(contents.sha256)
    repeated = {duplicate.path: duplicate.of for duplicate in duplicates}
    if table is not None:
        require_one_patient(repeated, table)
    groups = _groups([scan for scan in contents.sha256 if scan not in repeated], classes, table)
    subset_of = _subsets(groups, classes, validation, test, seed)
    fold_of = _folds(groups, classes, subset_of, folds, seed) if folds is not None else {}
    entries = tuple(
        SplitEntry(scan, scan.partition("/")[0], sha, subset_of[scan], fold_of.get(scan), (table or {}).get(scan))
        for scan, sha in contents.sha256.items()
        if scan not in repeated
    )
    return Split(classes, seed, float(validation), float(test), folds, entries, duplicates, contents.unreadable)


def _require_ranges(validation: float, test: float, folds: int | None) -> None:
    if not 0 < validation < 1:
        raise UsageError(f"The validation fraction must lie between 0 and 1, found {validation}.")
    if not 0 <= test < 1 or not math.isfinite(test):
        raise UsageError(f"The test fraction must be at least 0 and below 1, found {test}.")
    if validation + test >= 1:
        raise UsageError(f"Validation {validation} and test {test} leave nothing to train on.")
    if folds is not None and folds < 2:
        raise UsageError(f"There must be at least 2 folds, found {folds}.")


def _groups(scans: Sequence[str], classes: tuple[str, ...], table: Mapping[str, str] | None) -> list[Group]:
    """Scans of one patient together; without a table, each for itself, but the passes of one DICOM series together."""
    together: dict[str, list[str]] = defaultdict(list)
    for scan in scans:
        together[table[scan] if table is not None else series_of_scan(scan)].append(scan)
    return [
        Group(name, tuple(members), tuple(sum(scan.startswith(f"{label}/") for scan in members) for label in classes))
        for name, members in together.items()
    ]


def _subsets(
    groups: Sequence[Group], classes: tuple[str, ...], validation: float, test: float, seed: int
) -> dict[str, Subset]:
    # Test is filled first, so that another share for validation does not move it.
    names: tuple[Subset, ...] = ("test", "validation", "train") if test else ("validation", "train")
    fractions = [test, validation] if test else [validation]
    _require_enough(groups, classes, len(names), f"one each for {', '.join(reversed(names))}")
    shares = [whole_shares(count, fractions) for count in _totals(groups)]
    parts = assign_groups(groups, tuple(zip(*shares, strict=True)), seed)
    return {scan: name for name, part in zip(names, parts, strict=True) for group in part for scan in group.scans}


def _folds(
    groups: Sequence[Group], classes: tuple[str, ...], subset_of: Mapping[str, Subset], folds: int, seed: int
) -> dict[str, int]:
    left = [group for group in groups if subset_of[group.scans[0]] != "test"]
    _require_enough(left, classes, folds, f"one a fold for {folds} folds" + (" outside test" if left != groups else ""))
    parts = assign_groups(left, even_shares(_totals(left), folds), seed)
    return {scan: number for number, part in enumerate(parts) for group in part for scan in group.scans}


def _totals(groups: Sequence[Group]) -> list[int]:
    return [sum(counts) for counts in zip(*(group.counts for group in groups), strict=True)]


def _require_enough(groups: Sequence[Group], classes: tuple[str, ...], needed: int, what_for: str) -> None:
    """Each part needs a scan of each class, and a patient cannot be in two parts."""
    for label, name in enumerate(classes):
        having = [group for group in groups if group.counts[label]]
        scans = sum(group.counts[label] for group in having)
        if len(having) < needed:
            of = f" of {plural(len(having), 'patient')}" if scans > len(having) else ""
            raise DatasetError(
                f"Class {name} has {plural(scans, 'scan')}{of}; at least {needed} are needed, {what_for}."
            )
