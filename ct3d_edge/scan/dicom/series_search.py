"""What the DICOM series in folders are called, and which of them are scans to predict.

A series is named by a path: its folder, if that holds no other scan, else ``folder/SERIES-UID``; a pass of a series by
``folder/SERIES-UID#PASS``. So it can be written into a record, a split or a journal, and opened again from there.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ct3d_edge.formatting import plural
from ct3d_edge.scan.dicom.magic import NO_SERIES_UID
from ct3d_edge.scan.dicom.series_finder import (
    FolderContents,
    SeriesFiles,
    group_by_series,
    list_dicom_files,
    make_series,
)
from ct3d_edge.scan.dicom.series_membership import differing_attributes, have_common_instances
from ct3d_edge.scan.dicom.series_query import SeriesQuery, SkippedFile

Entries = list[Path | SkippedFile]
"""Scans by their names, and what is skipped."""

_Named = list[tuple[Path, SeriesFiles]]


def find_series(files: Mapping[Path, Sequence[Path]], query: SeriesQuery) -> dict[Path, Entries]:
    """Scans in folders, by folder, and what is skipped.

    Parameters
    ----------
    files
        DICOM files by folder.
    """
    contents = {folder: group_by_series(those) for folder, those in files.items()}
    joined, split = _join_folders(contents)
    found = {folder: list(_entries(folder, what, joined, query)) for folder, what in contents.items()}
    for folder, skipped in split.items():
        found[folder] += skipped if query.series is None else []
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


def _entries(
    folder: Path, contents: FolderContents, joined: Mapping[str, _Named], query: SeriesQuery
) -> Iterator[Path | SkippedFile]:
    """Scans in a folder; a series that is joined from several folders is in each of them."""
    for uid in contents.by_uid:
        for path, series in joined.get(uid) or _name_series(folder, uid, contents, query):
            if query.series is not None:
                yield from [path] if query.accepts(uid, series.name) else []
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


def _join_folders(
    contents: Mapping[Path, FolderContents],
) -> tuple[dict[str, _Named], dict[Path, list[SkippedFile]]]:
    """Series whose files lie in several folders, each file in one; and, by folder, why others stay apart."""
    folders_of: dict[str, list[Path]] = defaultdict(list)
    for folder, what in contents.items():
        for uid in what.by_uid:
            folders_of[uid] += [folder] if uid != NO_SERIES_UID else []
    joined: dict[str, _Named] = {}
    split: dict[Path, list[SkippedFile]] = defaultdict(list)
    for uid, folders in folders_of.items():
        if len(folders) < 2:
            continue
        parts = [contents[folder].by_uid[uid] for folder in folders]
        common = Path(os.path.commonpath(folders))
        if differing := differing_attributes(parts):
            reason = (
                f"not one scan: its files in {len(folders)} folders differ in {', '.join(differing)}, each is its own"
            )
            split[folders[0]].append(SkippedFile(common / uid, "series_split", reason))
        elif not have_common_instances(parts):
            whole = make_series(uid, [image for part in parts for image in part])
            joined[uid] = [(common / series.name, series) for series in whole]
    return joined, split
