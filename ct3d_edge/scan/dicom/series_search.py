"""What the DICOM series in folders are called, and which of them are scans to predict.

A series is named by a path: its folder, if that holds no other scan, else ``folder/SERIES-UID``. So a series can be
written into a record, a split or a journal, and opened again from there.
"""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from ct3d_edge.formatting import plural
from ct3d_edge.scan.dicom.instance import DicomInstance
from ct3d_edge.scan.dicom.magic import NO_SERIES_UID
from ct3d_edge.scan.dicom.series_finder import FolderContents, SeriesFiles, group_by_series, list_dicom_files
from ct3d_edge.scan.dicom.series_membership import differing_attributes, have_common_instances
from ct3d_edge.scan.dicom.series_query import SeriesQuery, SkippedFile


def find_series(files: Mapping[Path, Sequence[Path]], wanted: SeriesQuery) -> dict[Path, list[Path | SkippedFile]]:
    """Scans in folders, by folder, and what was passed over.

    Parameters
    ----------
    files
        DICOM files by folder.
    """
    contents = {place: group_by_series(those) for place, those in files.items()}
    spread, split = _find_split_series(contents)
    found = {place: _scan_paths(place, what, spread, wanted) for place, what in contents.items()}
    for place, those in split.items():
        found[place] += those if wanted.series is None else []
    return found


def find_series_of_files(files: Sequence[Path]) -> dict[Path, tuple[Path, str]]:
    """For DICOM files named one by one: name and UID of the series each belongs to; a broken one is its own."""
    contents = {
        place: group_by_series(list_dicom_files(place)) for place in dict.fromkeys(file.parent for file in files)
    }
    found = {file: (file, "") for file in files}
    for place, what in contents.items():
        for series in what.series:
            name = _scan_path(place, series, what)
            found |= {image.path: (name, series.uid) for image in series.images if image.path in found}
    return found


def _scan_path(place: Path, series: SeriesFiles, contents: FolderContents) -> Path:
    return place if contents.scans == (series,) else place / series.uid


def _scan_paths(
    place: Path, contents: FolderContents, spread: Mapping[str, Path], wanted: SeriesQuery
) -> list[Path | SkippedFile]:
    found: list[Path | SkippedFile] = []
    for series in contents.series:
        alone = place / series.uid if place in wanted.by_uid else _scan_path(place, series, contents)
        name = spread.get(series.uid, alone)
        if wanted.series is not None:
            found += [name] if series.uid == wanted.series else []
        elif series.reason is not None:
            found.append(SkippedFile(name, *series.reason))
        else:
            found.append(name)
    if wanted.series is None:
        # Beside a scan, a broken file is a quality flag of it; alone, it is what there is to report on.
        found += [] if contents.scans else [path for path, _ in contents.unreadable]
        if contents.not_images:
            reason = f"{plural(len(contents.not_images), 'DICOM file')} without an image"
            found.append(SkippedFile(place, "no_pixel_data", reason))
    return found


def _find_split_series(
    contents: Mapping[Path, FolderContents],
) -> tuple[dict[str, Path], dict[Path, list[SkippedFile]]]:
    """Names of series whose files lie in several folders, each file in one; and, by folder, why others stay apart."""
    parts: dict[str, list[tuple[Path, tuple[DicomInstance, ...]]]] = defaultdict(list)
    for place, what in contents.items():
        for series in what.series:
            if series.uid != NO_SERIES_UID:
                parts[series.uid].append((place, series.images))
    names: dict[str, Path] = {}
    split: dict[Path, list[SkippedFile]] = defaultdict(list)
    for uid, those in parts.items():
        if len(those) < 2:
            continue
        images = [part for _, part in those]
        name = Path(os.path.commonpath([place for place, _ in those])) / uid
        if reason := differing_attributes(images):
            told = f"not one scan: its files in {len(those)} folders differ in {', '.join(reason)}, each is its own"
            split[those[0][0]].append(SkippedFile(name, "series_split", told))
        elif not have_common_instances(images):
            names[uid] = name
    return names, split
