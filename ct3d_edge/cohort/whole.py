"""A folder that is a test set as a whole: nothing of it taught or chose anything."""

from pathlib import Path

from ct3d_edge.cohort.content import hash_scans
from ct3d_edge.cohort.folder import class_names, find_duplicates, refuse_unusable, scans_of_class
from ct3d_edge.cohort.progress import OnHashed, silent
from ct3d_edge.cohort.split import Entry, Split


def whole_folder(folder: Path, *, skip_bad: bool = False, on_hashed: OnHashed = silent) -> Split:
    """Put every scan of the two class folders into the test subset; files of the same content count once.

    Parameters
    ----------
    folder, skip_bad, on_hashed
        As for `split_folder`.

    Raises
    ------
    DatasetError
        As for `split_folder`.
    """
    classes = class_names(folder)
    scans = [scan for name in classes for scan in scans_of_class(folder, name)]
    contents = hash_scans(folder, scans, on_hashed)
    if not skip_bad:
        refuse_unusable(contents.unreadable, len(scans))
    duplicates = find_duplicates(contents.sha256)
    repeated = {duplicate.path for duplicate in duplicates}
    entries = tuple(
        Entry(scan, scan.partition("/")[0], sha, "test")
        for scan, sha in contents.sha256.items()
        if scan not in repeated
    )
    return Split(classes, 0, 0.0, 1.0, None, entries, duplicates, contents.unreadable)
