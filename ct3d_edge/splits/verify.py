"""Comparison of a folder with its split, and folders that are a test set as a whole."""

from collections.abc import Collection
from pathlib import Path

from ct3d_edge.errors import DatasetError
from ct3d_edge.formatting import plural
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.splits.folder import (
    class_names,
    find_duplicates,
    hash_scans,
    refuse_unusable_scans,
    scans_of_class,
)
from ct3d_edge.splits.patients import list_limited
from ct3d_edge.splits.split import SUBSETS, Split, SplitEntry, Subset


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
