"""What the DICOM series in folders are called, and which of them are scans to judge.

A series is named by a path: its folder, if that holds no other scan, else ``folder/SERIES-UID``. So a series can be
written into a record, a split or a journal, and opened again from there.
"""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from ct3d_edge.formatting import plural
from ct3d_edge.scan.dicom.instance import Image
from ct3d_edge.scan.dicom.magic import UNNAMED
from ct3d_edge.scan.dicom.series_finder import Contents, Series, dicom_files, read_contents
from ct3d_edge.scan.dicom.series_membership import differences, overlap
from ct3d_edge.scan.dicom.series_query import PassedOver, Wanted


def series_in(files: Mapping[Path, Sequence[Path]], wanted: Wanted) -> dict[Path, list[Path | PassedOver]]:
    """Scans in folders, by folder, and what was passed over.

    Parameters
    ----------
    files
        DICOM files by folder.
    """
    contents = {place: read_contents(those) for place, those in files.items()}
    spread, split = _spread(contents)
    found = {place: _scans(place, what, spread, wanted) for place, what in contents.items()}
    for place, those in split.items():
        found[place] += those if wanted.series is None else []
    return found


def series_of(files: Sequence[Path]) -> dict[Path, tuple[Path, str]]:
    """For DICOM files named one by one: name and UID of the series each belongs to; a broken one is its own."""
    contents = {place: read_contents(dicom_files(place)) for place in dict.fromkeys(file.parent for file in files)}
    found = {file: (file, "") for file in files}
    for place, what in contents.items():
        for series in what.series:
            name = _name(place, series, what)
            found |= {image.path: (name, series.uid) for image in series.images if image.path in found}
    return found


def _name(place: Path, series: Series, contents: Contents) -> Path:
    return place if contents.scans == (series,) else place / series.uid


def _scans(place: Path, contents: Contents, spread: Mapping[str, Path], wanted: Wanted) -> list[Path | PassedOver]:
    found: list[Path | PassedOver] = []
    for series in contents.series:
        alone = place / series.uid if place in wanted.by_uid else _name(place, series, contents)
        name = spread.get(series.uid, alone)
        if wanted.series is not None:
            found += [name] if series.uid == wanted.series else []
        elif series.reason is not None:
            found.append(PassedOver(name, *series.reason))
        else:
            found.append(name)
    if wanted.series is None:
        # Beside a scan, a broken file is a finding of it; alone, it is what there is to report on.
        found += [] if contents.scans else [path for path, _ in contents.broken]
        if contents.other:
            reason = f"{plural(len(contents.other), 'DICOM file')} without an image"
            found.append(PassedOver(place, "no_image", reason))
    return found


def _spread(contents: Mapping[Path, Contents]) -> tuple[dict[str, Path], dict[Path, list[PassedOver]]]:
    """Names of series whose files lie in several folders, each file in one; and, by folder, why others stay apart."""
    parts: dict[str, list[tuple[Path, tuple[Image, ...]]]] = defaultdict(list)
    for place, what in contents.items():
        for series in what.series:
            if series.uid != UNNAMED:
                parts[series.uid].append((place, series.images))
    names: dict[str, Path] = {}
    split: dict[Path, list[PassedOver]] = defaultdict(list)
    for uid, those in parts.items():
        if len(those) < 2:
            continue
        images = [part for _, part in those]
        name = Path(os.path.commonpath([place for place, _ in those])) / uid
        if reason := differences(images):
            told = f"not one scan: its files in {len(those)} folders differ in {', '.join(reason)}, each is its own"
            split[those[0][0]].append(PassedOver(name, "identity_split", told))
        elif not overlap(images):
            names[uid] = name
    return names, split
