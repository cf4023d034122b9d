"""From a folder to its split: stratified, seeded, by content, and by patient where a table names them.

Groups of scans that must stay together are assigned in the order of their hashes: unlike the order of a random
generator, no version of a library can change it.
"""

import hashlib
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
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

VALIDATION_FRACTION = 0.3
"""The published tutorial trains on 70 and validates on 30 of 100 scans of each class."""


ATTEMPTS = 64
"""Orders that are tried where whole groups cannot give the exact shares. Single scans can: the first order does."""


@dataclass(frozen=True)
class Group:
    """Scans that stay together.

    Parameters
    ----------
    name
        Hashed for its position in the order.
    scans
        Their paths.
    counts
        How many of them belong to each class.
    """

    name: str
    scans: tuple[str, ...]
    counts: tuple[int, ...]


Counts = tuple[tuple[int, ...], ...]
"""Scans by part, then by class."""


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


def whole_shares(scans: int, fractions: Sequence[float]) -> tuple[int, ...]:
    """Nearest whole number of scans for each fraction, and the rest behind them; at least one each.

    ``scans`` must be at least ``len(fractions) + 1``.
    """
    shares = [max(round(scans * fraction), 1) for fraction in fractions]
    while sum(shares) >= scans:
        shares[shares.index(max(shares))] -= 1
    return (*shares, scans - sum(shares))


def even_shares(counts: Sequence[int], parts: int) -> Counts:
    """Scans by part and class such that parts, within classes and in all, differ by one at most."""
    position = count()
    extra = [[0] * len(counts) for _ in range(parts)]
    for label, scans in enumerate(counts):
        for _ in range(scans % parts):
            extra[next(position) % parts][label] = 1
    return tuple(tuple(n // parts + more for n, more in zip(counts, row, strict=True)) for row in extra)


def assign_groups(groups: Sequence[Group], targets: Counts, seed: int) -> list[list[Group]]:
    """Assign groups to parts, as near to the targets as whole groups allow; every part gets both classes.

    Parameters
    ----------
    groups
        Of each of the two classes, as many groups as there are parts must have a scan: then every part can have
        one, since a part that is given a group of both classes leaves a single one of each to another.
    targets
        Scans wanted by part, then by class; together, what the groups have.
    seed
        Draws another order.
    """
    attempts: list[list[list[Group]]] = []
    for attempt in range(ATTEMPTS):
        attempts.append(_assign_once(_shuffle(groups, seed, attempt), targets, reserve=attempt % 2 == 1))
        if _miss(attempts[-1], targets) == (0, 0):
            break
    return min(attempts, key=lambda parts: _miss(parts, targets))


def _shuffle(groups: Sequence[Group], seed: int, attempt: int) -> list[Group]:
    salt = f"{seed}\n" if attempt == 0 else f"{seed}\n{attempt}\n"
    return sorted(groups, key=lambda group: hashlib.sha256(salt.encode() + os.fsencode(group.name)).digest())


def _assign_once(order: list[Group], targets: Counts, *, reserve: bool) -> list[list[Group]]:
    """Each group goes to the first part that it brings nearer to its target, else where it does least harm."""
    parts: list[list[Group]] = [_reserve(order, len(targets[0])) if reserve else [] for _ in targets]
    needs = [_need(part, target) for part, target in zip(parts, targets, strict=True)]
    for group in order:
        gains = [_gain(group, need) for need in needs]
        chosen = next((n for n, gain in enumerate(gains) if gain > 0), gains.index(max(gains)))
        parts[chosen].append(group)
        needs[chosen] = _need([group], needs[chosen])
    return parts


def _reserve(order: list[Group], classes: int) -> list[Group]:
    """Take one scan of each class out of the order; small groups of one class are spent first."""
    part: list[Group] = []
    for label in range(classes):
        fitting = [group for group in order if group.counts[label]]
        if fitting and not any(group.counts[label] for group in part):
            part.append(min(fitting, key=lambda group: (sum(map(bool, group.counts)), sum(group.counts))))
            order.remove(part[-1])
    return part


def _gain(group: Group, need: Sequence[int]) -> int:
    """By how much a group lowers the squared distance of a part from its target."""
    return sum(n**2 - (n - own) ** 2 for n, own in zip(need, group.counts, strict=True))


def _miss(parts: list[list[Group]], targets: Counts) -> tuple[int, int]:
    """How many parts lack a class, and the squared distance from the targets."""
    classes = range(len(targets[0]))
    lacking = sum(not all(any(group.counts[label] for group in part) for label in classes) for part in parts)
    distance = sum(n**2 for part, target in zip(parts, targets, strict=True) for n in _need(part, target))
    return lacking, distance


def _need(part: list[Group], target: Sequence[int]) -> list[int]:
    return [wanted - sum(group.counts[label] for group in part) for label, wanted in enumerate(target)]
