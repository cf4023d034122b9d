"""DICOM files in a folder: which series they form, and which of those are scans to judge."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.errors import RefusedScan, UnreadableScan
from ct3d_edge.formatting import plural
from ct3d_edge.scan.dicom.instance import CT_CLASSES, Image, read_image, series_of_file
from ct3d_edge.scan.dicom.magic import UNNAMED, is_dicom, promises_dicom
from ct3d_edge.scan.dicom.series import DicomSeries
from ct3d_edge.scan.dicom.series_membership import differences, overlap, split_finding
from ct3d_edge.scan.gzip_reader import go_on
from ct3d_edge.scan.path_kind import is_file, is_folder
from ct3d_edge.scan.qc_flag import Finding

NAMED = 3
"""Files named in a message."""


@dataclass(frozen=True)
class Series:
    """Files of one series.

    Parameters
    ----------
    uid
        Its SeriesInstanceUID, or `UNNAMED`.
    images
        Sorted by path.
    reason
        Code and sentence why it is no scan to judge, or None.
    """

    uid: str
    images: tuple[Image, ...]
    reason: tuple[str, str] | None


@dataclass(frozen=True)
class Contents:
    """What the DICOM files of a folder are.

    Parameters
    ----------
    series
        By their first file.
    broken
        Files that should be DICOM and cannot be read, with the reason.
    other
        DICOM files without an image: reports, plans, the DICOMDIR.
    """

    series: tuple[Series, ...]
    broken: tuple[tuple[Path, UnreadableScan], ...]
    other: tuple[Path, ...]

    @property
    def scans(self) -> tuple[Series, ...]:
        """Those that are scans to judge."""
        return tuple(series for series in self.series if series.reason is None)

    def remarks(self) -> tuple[Finding, ...]:
        """What is to be said of every series here: which of them a broken file belongs to cannot be known."""
        if not self.broken:
            return ()
        names = ", ".join(path.name for path, _ in self.broken[:NAMED])
        more = f" and {len(self.broken) - NAMED} more" if len(self.broken) > NAMED else ""
        detail = f"Beside the series, {plural(len(self.broken), 'file')} cannot be read: {names}{more}."
        return (Finding("unreadable_files", "warn", detail, len(self.broken)),)


def open_series(path: Path, on_block: Callable[[], None] = go_on) -> DicomSeries:
    """Open what a path stands for: a folder with one series, ``folder/SERIES-UID``, or a file for its whole series.

    A series that is named by its UID may continue in folders below.

    Raises
    ------
    RefusedScan
        ``several_series`` if a folder holds more than one; else as `DicomSeries`.
    UnreadableScan
        ``not_found`` if there is none; else as `read_image` and `DicomSeries`.
    """
    series, remarks = _resolve(path, on_block)
    return DicomSeries(path, series.images, remarks, on_block)


def series_files(path: Path, on_block: Callable[[], None] = go_on) -> tuple[Path, ...]:
    """The files of what a path stands for; see `open_series`."""
    return tuple(image.path for image in series_images(path, on_block))


def series_images(path: Path, on_block: Callable[[], None] = go_on) -> tuple[Image, ...]:
    """The parsed files of what a path stands for; see `open_series`."""
    return _resolve(path, on_block)[0].images


def _resolve(path: Path, on_block: Callable[[], None]) -> tuple[Series, tuple[Finding, ...]]:
    if is_folder(path):
        contents = read_contents(dicom_files(path), on_block)
        return _only(contents, path), contents.remarks()
    folder = path.parent
    uid = (read_image(path).series or UNNAMED) if is_file(path) else path.name
    # None stands for files that cannot be read: they are to be remarked.
    contents = read_contents(_files_of(folder, (uid, None), on_block), on_block)
    images = [image for series in contents.series if series.uid == uid for image in series.images]
    split: tuple[Finding, ...] = ()
    if not is_file(path) and uid != UNNAMED:
        images, split = _with_parts_below(folder, uid, images, on_block)
    if not images:
        raise UnreadableScan("not_found", f"{folder} holds no DICOM series {uid}.")
    return Series(uid, tuple(images), _reason(images)), (*contents.remarks(), *split)


def _with_parts_below(
    folder: Path, uid: str, images: list[Image], on_block: Callable[[], None]
) -> tuple[list[Image], tuple[Finding, ...]]:
    """Images of a series, and those in folders below that complete it; copies and other identities are left alone."""
    parts = [(folder, images)] if images else []
    for parent, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        place = Path(parent)
        if place != folder and (part := [read_image(file) for file in _files_of(place, (uid,), on_block)]):
            parts.append((place, part))
    whole: list[list[Image]] = []
    for _, part in parts:
        whole += [] if overlap([*whole, part]) else [part]
    differing = differences([part for _, part in parts]) or differences(whole)
    if not differing:
        return [image for part in whole for image in part], ()
    if images:
        return images, (split_finding(differing),)
    names = ", ".join(place.relative_to(folder).as_posix() for place, _ in parts[:NAMED])
    raise RefusedScan(
        "several_series",
        f"{uid} lies in {len(parts)} folders whose files differ in {', '.join(differing)}; "
        f"name one of their folders: {names}{', ...' if len(parts) > NAMED else ''}.",
    )


def _files_of(folder: Path, series: Sequence[str | None], on_block: Callable[[], None]) -> Iterator[Path]:
    """DICOM files directly in a folder that belong to one of these series."""
    for file in dicom_files(folder):
        on_block()
        if series_of_file(file) in series:
            yield file


def _only(contents: Contents, folder: Path) -> Series:
    """The one scan of a folder."""
    if len(contents.scans) == 1:
        return contents.scans[0]
    if contents.scans:
        uids = ", ".join(series.uid for series in contents.scans)
        raise RefusedScan("several_series", f"{folder.name} holds {len(contents.scans)} series; name one: {uids}.")
    if contents.series and (reason := contents.series[0].reason):
        raise RefusedScan(reason[0], f"{folder.name} holds {reason[1]}.")
    if contents.broken:
        raise contents.broken[0][1]
    raise UnreadableScan("not_found", f"{folder.name} holds no DICOM images.")


def dicom_files(folder: Path) -> list[Path]:
    """Files directly in a folder that are DICOM or are named so, sorted; hidden ones do not count.

    Raises
    ------
    UnreadableScan
        ``not_found``, ``unreadable`` if the folder cannot be searched.
    """
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and is_file(path))
    except OSError as error:
        code = "not_found" if isinstance(error, FileNotFoundError) else "unreadable"
        raise UnreadableScan(code, f"{folder.name} cannot be searched: {error.strerror or error}.") from error
    return [path for path in files if promises_dicom(path) or is_dicom(path)]


def read_contents(files: Iterable[Path], on_block: Callable[[], None] = go_on) -> Contents:
    """Group files by series."""
    groups: dict[str, list[Image]] = defaultdict(list)
    broken: list[tuple[Path, UnreadableScan]] = []
    other = []
    for path in files:
        on_block()
        try:
            image = read_image(path)
        except UnreadableScan as error:
            if error.code == "no_image":
                other.append(path)
            else:
                broken.append((path, error))
            continue
        groups[image.series or UNNAMED].append(image)
    series = tuple(Series(uid, tuple(images), _reason(images)) for uid, images in groups.items())
    return Contents(series, tuple(broken), tuple(other))


def _reason(images: Sequence[Image]) -> tuple[str, str] | None:
    """Why a series is left out where it was only found, not named."""
    frames = [frame for image in images for frame in image.frames]
    if all(frame.is_localizer for frame in frames):
        return "localizer", "the overview picture that a scan is planned on"
    if not all(image.is_ct for image in images):
        return "not_ct", f"{images[0].modality or 'unknown'} images, not CT"
    if not any(image.sop_class in CT_CLASSES or not image.sop_class for image in images):
        return "not_ct", "pictures of another kind than CT images, screenshots perhaps"
    if all(frame.is_derived for frame in frames):
        return "derived", "computed from other images (DERIVED, SECONDARY)"
    return None
