"""What the DICOM series in folders are called, and which of them are scans to predict.

A series is named by a path: its folder, if that holds no other scan, else ``folder/SERIES-UID``; a pass of a series by
``folder/SERIES-UID#PASS``. So it can be written into a record, a split or a journal, and opened again from there.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ct3d_edge.formatting import plural
from ct3d_edge.scan.dicom.folder_contents import (
    FolderContents,
    SeriesFiles,
    group_by_series,
    list_dicom_files,
    make_series,
)
from ct3d_edge.scan.dicom.magic import NO_SERIES_UID
from ct3d_edge.scan.dicom.series import have_identical_copies
from ct3d_edge.scan.dicom.series_membership import differing_attributes, have_equal_instances
from ct3d_edge.scan.dicom.series_query import SearchEntry, SearchFlag, SeriesQuery, SkippedFile
from ct3d_edge.scan.dicom.series_relations import copy_flag, sibling_flag, twin_flags

_Named = list[tuple[Path, SeriesFiles]]


def find_series(files: Mapping[Path, Sequence[Path]], query: SeriesQuery) -> dict[Path, list[SearchEntry]]:
    """Scans in folders, by folder, what is skipped, and quality flags of scans that depend on one another.

    Parameters
    ----------
    files
        DICOM files by folder.
    """
    contents = {folder: group_by_series(those) for folder, those in files.items()}
    joined, split, copies = _join_folders(contents)
    named = {
        folder: [each for uid in what.by_uid for each in joined.get(uid) or _name_series(folder, uid, what, query)]
        for folder, what in contents.items()
    }
    found = {folder: list(_entries(folder, what, named[folder], query)) for folder, what in contents.items()}
    for uid, (folders, differing) in split.items():
        found[folders[0]] += _split_entries(uid, folders, differing, named) if query.series is None else []
    for uid, folders in copies.items():
        flag = copy_flag(len(folders), uid)
        for folder in folders:
            scans = [path for path, each in named[folder] if each.uid == uid and each.reason is None]
            found[folder] += [SearchFlag(path, flag) for path in scans]
    twins = twin_flags([each for those in named.values() for each in those if each[1].reason is None])
    for folder, those in named.items():
        found[folder] += [SearchFlag(path, twins[path]) for path, _ in those if path in twins]
    return found


def find_series_of_files(files: Sequence[Path], query: SeriesQuery) -> dict[Path, list[Path]]:
    """For DICOM files named one by one: the names of the series or passes in each; a broken one is its own."""
    found = {file: [file] if query.series is None else [] for file in files}
    for folder in dict.fromkeys(file.parent for file in files):
        contents = group_by_series(list_dicom_files(folder))
        names: dict[Path, list[Path]] = defaultdict(list)
        for path, series in [each for uid in contents.by_uid for each in _name_series(folder, uid, contents, query)]:
            for image in series.images:
                names[image.path] += [path] if query.accepts(series.uid, series.name) else []
        found |= {file: paths for file, paths in names.items() if file in found}
    return found


def _entries(folder: Path, contents: FolderContents, named: _Named, query: SeriesQuery) -> Iterator[SearchEntry]:
    """Scans in a folder; a series that is joined from several folders is in each of them."""
    for path, series in named:
        if query.series is not None:
            yield from [path] if query.accepts(series.uid, series.name) else []
        else:
            yield SkippedFile(path, *series.reason) if series.reason else path
    if query.series is None:
        # Beside a scan, a broken file is a quality flag of it; alone, it is what there is to report on.
        yield from () if contents.scans else (path for path, _ in contents.unreadable)
        if contents.not_images:
            reason = f"{plural(len(contents.not_images), 'DICOM file')} without an image"
            yield SkippedFile(folder, "no_pixel_data", reason)


def _name_series(folder: Path, uid: str, contents: FolderContents, query: SeriesQuery) -> _Named:
    alone = len(contents.scans) == 1 and folder not in query.by_uid
    those = [series for series in contents.series if series.uid == uid]
    return [(folder if alone and series.reason is None else folder / series.name, series) for series in those]


def _split_entries(
    uid: str, folders: Sequence[Path], differing: Sequence[str], named: Mapping[Path, _Named]
) -> Iterator[SearchEntry]:
    """A message, and a quality flag of each scan of a series UID whose folders stay apart."""
    attributes = ", ".join(differing)
    reason = f"not one scan: its files in {len(folders)} folders differ in {attributes}, each is its own"
    yield SkippedFile(Path(os.path.commonpath(folders)) / uid, "series_split", reason)
    flag = sibling_flag(len(folders), attributes)
    for path, series in (each for folder in folders for each in named[folder]):
        if series.uid == uid and series.reason is None:
            yield SearchFlag(path, flag)


def _join_folders(
    contents: Mapping[Path, FolderContents],
) -> tuple[dict[str, _Named], dict[str, tuple[list[Path], tuple[str, ...]]], dict[str, list[Path]]]:
    """Series whose files lie in several folders; of others, the folders and what differs; and the folders of copies.

    Folders are copies if they hold the same instances. Where only some are the same, or one instance has other pixels,
    the files are taken together: on opening, an instance is taken once with a flag, or refused.
    """
    folders_of: dict[str, list[Path]] = defaultdict(list)
    for folder, what in contents.items():
        for uid in what.by_uid:
            folders_of[uid] += [folder] if uid != NO_SERIES_UID else []
    joined: dict[str, _Named] = {}
    split: dict[str, tuple[list[Path], tuple[str, ...]]] = {}
    copies: dict[str, list[Path]] = {}
    for uid, folders in folders_of.items():
        if len(folders) < 2:
            continue
        parts = [contents[folder].by_uid[uid] for folder in folders]
        common = Path(os.path.commonpath(folders))
        if differing := differing_attributes(parts):
            split[uid] = folders, differing
        elif have_equal_instances(parts) and have_identical_copies([image for part in parts for image in part]):
            copies[uid] = folders
        else:
            whole = make_series(uid, [image for part in parts for image in part])
            joined[uid] = [(common / series.name, series) for series in whole]
    return joined, split, copies
