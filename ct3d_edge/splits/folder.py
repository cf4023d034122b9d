"""A folder of scans: its classes, its scans, their content hashes, duplicates, and the comparison with its split."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ct3d_edge.errors import DatasetError, ScanError, UsageError
from ct3d_edge.formatting import plural
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.splits.patients import NAMED, list_limited
from ct3d_edge.splits.split import SUBSETS, Duplicate, ExcludedScan, Split, SplitEntry, Subset
from ct3d_edge.system.machine import count_usable_cores


@dataclass(frozen=True)
class DatasetContents:
    """SHA-256 of scans by path, and those whose bytes cannot be read."""

    sha256: Mapping[str, str]
    unreadable: tuple[ExcludedScan, ...]


def hash_scans(folder: Path, scans: Sequence[str], progress: Progress = no_progress) -> DatasetContents:
    """Hash scans side by side.

    Parameters
    ----------
    scans
        Paths relative to ``folder``.
    progress
        Called after each scan, in this thread.
    """
    known: dict[str, str] = {}
    unreadable = []
    # Threads are enough: hashing and reading both let go of the interpreter's lock.
    with ThreadPoolExecutor(count_usable_cores()) as pool:
        for done, (scan, found) in enumerate(zip(scans, pool.map(partial(_try, folder), scans), strict=True), 1):
            if isinstance(found, str):
                known[scan] = found
            else:
                unreadable.append(ExcludedScan(scan, found.code, str(found)))
            progress(done, len(scans), "Checking scans")
    return DatasetContents(known, tuple(unreadable))


def _try(folder: Path, scan: str) -> str | ScanError:
    try:
        return content_sha256(folder / scan)
    except ScanError as error:
        return error


CLASS_COUNT = 2


def class_names(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in the order of the labels; one called ``normal`` comes first.

    Raises
    ------
    DatasetError
        If ``folder`` is no folder or does not hold exactly two; hidden ones do not count.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is {'not a folder' if folder.exists() else 'not there'}.")
    try:
        names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise DatasetError(f"{folder} cannot be searched: {error.strerror or error}.") from error
    names.sort(key=lambda name: (name.casefold() != "normal", name))
    if len(names) != CLASS_COUNT:
        found = ", ".join(names) or "none"
        raise DatasetError(
            f"{folder} must hold exactly {CLASS_COUNT} folders, one a class; found {len(names)}: {found}."
        )
    return tuple(names)


def scans_of_class(folder: Path, name: str) -> list[str]:
    """Sorted paths of a class's scans relative to ``folder``, with forward slashes.

    Raises
    ------
    DatasetError
        If there are none, or a folder cannot be searched.
    """
    try:
        found = find_scans([folder / name], name_by_uid=True)
    except UsageError as error:
        raise DatasetError(f"Class {name} has no scans: {error}") from error
    return sorted(path.relative_to(folder).as_posix() for path in found)


def find_duplicates(sha256: Mapping[str, str]) -> tuple[Duplicate, ...]:
    """Files whose content another one has, too; of each content, the first in the given order counts.

    Raises
    ------
    DatasetError
        If the same content stands under two classes: one of the labels is wrong.
    """
    first: dict[str, str] = {}
    duplicates = [Duplicate(path, first[sha]) for path, sha in sha256.items() if first.setdefault(sha, path) != path]
    clashes = [f"{d.path} and {d.of}" for d in duplicates if _class_of(d.path) != _class_of(d.of)]
    if clashes:
        named = "\n".join(f"  {clash}" for clash in clashes[:NAMED])
        raise DatasetError(
            f"Under both classes with the same content: {plural(len(clashes), 'scan')}. "
            f"Remove the wrong one of:\n{named}"
        )
    return tuple(sorted(duplicates, key=lambda duplicate: duplicate.path))


def refuse_unusable_scans(unusable: tuple[ExcludedScan, ...], total: int) -> None:
    """Stop for scans that cannot be used.

    Raises
    ------
    DatasetError
        Naming all of them, if there are any.
    """
    if unusable:
        lines = [f"  {scan.path}: {scan.reason}" for scan in unusable]
        advice = "Repair or remove them, or leave them out (`skip_bad=True`):"
        head = f"{len(unusable)} of {total} scans cannot be used. {advice}"
        raise DatasetError("\n".join([head, *lines]))


def _class_of(path: str) -> str:
    return path.partition("/")[0]


def folder_as_test_set(folder: Path, *, skip_bad: bool = False, progress: Progress = no_progress) -> Split:
    """Put every scan of the two class folders into the test subset; files of the same content count once.

    Parameters
    ----------
    folder, skip_bad, progress
        As for `split_folder`.

    Raises
    ------
    DatasetError
        As for `split_folder`.
    """
    classes = class_names(folder)
    scans = [scan for name in classes for scan in scans_of_class(folder, name)]
    contents = hash_scans(folder, scans, progress)
    if not skip_bad:
        refuse_unusable_scans(contents.unreadable, len(scans))
    duplicates = find_duplicates(contents.sha256)
    repeated = {duplicate.path for duplicate in duplicates}
    entries = tuple(
        SplitEntry(scan, scan.partition("/")[0], sha, "test")
        for scan, sha in contents.sha256.items()
        if scan not in repeated
    )
    return Split(classes, 0, 0.0, 1.0, None, entries, duplicates, contents.unreadable)


def verify_folder(
    split: Split,
    folder: Path,
    subsets: Collection[Subset] = SUBSETS,
    *,
    skip_bad: bool = False,
    progress: Progress = no_progress,
) -> Split:
    """Compare a folder with its split: the same classes, every scan there, none new, contents unchanged.

    Parameters
    ----------
    folder
        What the paths in ``split`` are relative to.
    subsets
        Whose contents are compared, with their duplicates. Files of the others must be there and are not opened.
    skip_bad
        Leave out scans of these subsets whose bytes cannot be read any more.
    progress
        Called after each scan.

    Returns
    -------
    Split
        Without the scans that were left out.

    Raises
    ------
    DatasetError
        Naming what differs, or scans that cannot be read.
    """
    classes = class_names(folder)
    if classes != split.classes:
        raise DatasetError(
            _mismatch(folder, [f"its classes are {list_limited(classes)}, not {list_limited(split.classes)}"])
        )
    present = {scan for name in classes for scan in scans_of_class(folder, name)}
    missing = [entry.path for entry in split.entries if entry.path not in present]
    new = sorted(present.difference(split.paths))
    expected = {path: sha for path, sha in _expected(split, subsets).items() if path in present}
    contents = hash_scans(folder, list(expected), progress)
    changed = [path for path, sha in contents.sha256.items() if sha != expected[path]]
    differences = [
        f"{plural(len(paths), 'scan')} {what}: {list_limited(paths)}"
        for what, paths in (("missing", missing), ("changed since", changed), ("not in the split", new))
        if paths
    ]
    if differences:
        raise DatasetError(_mismatch(folder, differences))
    unreadable = tuple(scan for scan in contents.unreadable if scan.path in {entry.path for entry in split.entries})
    if not skip_bad:
        refuse_unusable_scans(unreadable, len(split.entries))
    return split.without(unreadable)


def _expected(split: Split, subsets: Collection[Subset]) -> dict[str, str]:
    """SHA-256 of every file that is to be compared, by path."""
    contents = {entry.path: entry.sha256 for entry in split.entries if entry.subset in subsets}
    contents.update({scan.path: scan.sha256 for scan in split.left_out if scan.sha256 is not None})
    repeated = {duplicate.path: contents[duplicate.of] for duplicate in split.duplicates if duplicate.of in contents}
    return contents | repeated


def _mismatch(folder: Path, differences: list[str]) -> str:
    return (
        f"{folder} does not match the split: {'; '.join(differences)}. "
        "Put the folder back as it was, or make the split again: ct3d-edge data split DIR --out split.json"
    )
