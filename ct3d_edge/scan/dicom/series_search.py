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
from ct3d_edge.scan.dicom.instance import DicomInstance
from ct3d_edge.scan.dicom.magic import NO_SERIES_UID
from ct3d_edge.scan.dicom.series import have_identical_copies
from ct3d_edge.scan.dicom.series_membership import differing_attributes, have_equal_instances
from ct3d_edge.scan.dicom.series_query import SearchEntry, SearchFlag, SeriesQuery, SkippedFile
from ct3d_edge.scan.dicom.series_relations import apart_flag, copy_flag, sibling_flag, twin_flags
from ct3d_edge.scan.qc_flag import QCFlag

_Named = list[tuple[Path, SeriesFiles]]


def find_series(
    roots: Sequence[Mapping[Path, Sequence[Path]]], query: SeriesQuery
) -> list[dict[Path, list[SearchEntry]]]:
    """Scans in folders, by folder, what is skipped, and quality flags of scans that depend on one another.

    Parameters
    ----------
    roots
        For each path that was named, the DICOM files below it by folder. Series are joined below one path only.
    """
    names, entries = [], []
    for files in roots:
        named, found = _search_below(files, query)
        names.append(named)
        entries.append(found)
    flags = _related_flags(names)
    for named, found in zip(names, entries, strict=True):
        for folder, those in named.items():
            found[folder] += [SearchFlag(path, flag) for path, _ in those for flag in flags.get(path, ())]
    return entries


def _related_flags(names: Sequence[Mapping[Path, _Named]]) -> dict[Path, list[QCFlag]]:
    """Flags of scans that concern each other, by scan, from the series below each path by folder."""
    scans = [each for named in names for those in named.values() for each in those if each[1].reason is None]
    flags: dict[Path, list[QCFlag]] = defaultdict(list)
    for path, flag in (*twin_flags(scans).items(), *_flags_across(names)):
        flags[path].append(flag)
    return flags


def _search_below(
    files: Mapping[Path, Sequence[Path]], query: SeriesQuery
) -> tuple[dict[Path, _Named], dict[Path, list[SearchEntry]]]:
    """Series below one path, and the entries of the search, both by folder."""
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
    return named, found


def _flags_across(names: Sequence[Mapping[Path, _Named]]) -> Iterator[tuple[Path, QCFlag]]:
    """A flag for each scan of a series of which other files lie below another path that was named."""
    scans_of: dict[str, dict[int, _Named]] = defaultdict(lambda: defaultdict(list))
    for number, named in enumerate(names):
        for path, series in dict(each for those in named.values() for each in those).items():
            if series.reason is None and series.uid != NO_SERIES_UID:
                scans_of[series.uid][number].append((path, series))
    for uid, scans in scans_of.items():
        below = [[image for _, series in those for image in series.images] for those in scans.values()]
        if len(below) > 1 and len(parts := _without_nested(below)) > 1:
            flag = _relation(uid, parts)
            yield from ((path, flag) for those in scans.values() for path, _ in those)
        elif len(below) > 1:
            flag = apart_flag(len(below))
            yield from ((path, flag) for path in _find_parts([each for those in scans.values() for each in those]))


def _find_parts(scans: _Named) -> list[Path]:
    """Scans that are a part of another one: of a folder that was named beside the one that holds it."""
    files = {path: {os.path.realpath(image.path) for image in series.images} for path, series in scans}
    return [path for path, those in files.items() if any(those < others for others in files.values())]


def _without_nested(parts: Sequence[Sequence[DicomInstance]]) -> list[Sequence[DicomInstance]]:
    """Without the files of a path that lies below another one, or is the same by another name."""
    found, seen = [], set[str]()
    for part in sorted(parts, key=len, reverse=True):
        files = {os.path.realpath(image.path) for image in part}
        if not files <= seen:
            found.append(part)
        seen |= files
    return found


def _relation(uid: str, parts: Sequence[Sequence[DicomInstance]]) -> QCFlag:
    """What files of one series UID under several paths are to each other."""
    if differing := differing_attributes(parts):
        return sibling_flag(len(parts), ", ".join(differing))
    if have_equal_instances(parts) and have_identical_copies([image for part in parts for image in part]):
        return copy_flag(len(parts), uid)
    return apart_flag(len(parts))


def find_series_of_files(files: Sequence[Path], query: SeriesQuery) -> dict[Path, list[SearchEntry]]:
    """For DICOM files named one by one: the series or passes in each, with their flags; a broken one is its own."""
    found: dict[Path, list[SearchEntry]] = {file: [file] if query.series is None else [] for file in files}
    named: dict[Path, _Named] = {}
    for folder in dict.fromkeys(file.parent for file in files):
        contents = group_by_series(list_dicom_files(folder))
        names: dict[Path, list[SearchEntry]] = defaultdict(list)
        scans = [each for uid in contents.by_uid for each in _name_series(folder, uid, contents, query)]
        for path, series in scans:
            for image in series.images:
                names[image.path] += [path] if query.accepts(series.uid, series.name) else []
        found |= {file: paths for file, paths in names.items() if file in found}
        named[folder] = [each for each in scans if any(image.path in found for image in each[1].images)]
    flags = _related_flags([{folder: those} for folder, those in named.items()])
    for path, series in (each for those in named.values() for each in those):
        file = next(image.path for image in series.images if image.path in found)
        found[file] += [SearchFlag(path, flag) for flag in flags.get(path, ())]
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
