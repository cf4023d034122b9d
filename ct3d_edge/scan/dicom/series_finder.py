"""Find the DICOM series or pass that a path stands for, and open it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.scan.archive import is_file, is_folder
from ct3d_edge.scan.dicom.folder_contents import (
    MAX_NAMED,
    FolderContents,
    SeriesFiles,
    group_by_series,
    list_dicom_files,
    make_series,
)
from ct3d_edge.scan.dicom.instance import DicomInstance, read_instance, read_series_uid
from ct3d_edge.scan.dicom.magic import NO_SERIES_UID, is_dicomdir, split_series_name
from ct3d_edge.scan.dicom.series import DicomSeries
from ct3d_edge.scan.dicom.series_membership import differing_attributes, split_flag
from ct3d_edge.scan.folder_walk import walk_folders
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.qc_flag import QCFlag


def open_series(path: Path, check_cancelled: Callable[[], None] = no_cancellation) -> DicomSeries:
    """Open what a path stands for: a folder with one series, ``folder/SERIES-UID``, or a file for its whole series.

    A series that is named by its UID may continue in folders below. Of a series of several passes, a path stands for
    one: ``folder/SERIES-UID#PASS``, or a file of the pass.

    Raises
    ------
    RefusedScanError
        ``multiple_series`` if a folder holds more than one; ``multiple_volumes`` if the series has several passes;
        else as `DicomSeries`.
    UnreadableScanError
        ``not_found`` if there is none; else as `read_instance` and `DicomSeries`.
    """
    series, remarks = _resolve(path, check_cancelled)
    return DicomSeries(path, series.images, remarks, check_cancelled)


def list_series_files(path: Path, check_cancelled: Callable[[], None] = no_cancellation) -> tuple[Path, ...]:
    """The files of what a path stands for; see `open_series`."""
    return tuple(image.path for image in read_series_instances(path, check_cancelled))


def read_series_instances(
    path: Path, check_cancelled: Callable[[], None] = no_cancellation
) -> tuple[DicomInstance, ...]:
    """The parsed files of what a path stands for; see `open_series`."""
    return _resolve(path, check_cancelled)[0].images


def _resolve(path: Path, check_cancelled: Callable[[], None]) -> tuple[SeriesFiles, tuple[QCFlag, ...]]:
    """The series or pass that a path stands for, and quality flags of the search."""
    if is_folder(path):
        contents = group_by_series(list_dicom_files(path), check_cancelled)
        series = _require_single_series(contents, path)
        return series, (*contents.remarks(), *series.flags)
    folder = path.parent
    if is_dicomdir(path):
        raise UnreadableScanError("no_pixel_data", f"{path.name} is the index of a DICOM medium; name its folder.")
    named = (read_instance(path).series or NO_SERIES_UID, "") if is_file(path) else split_series_name(path.name)
    uid, pass_name = named
    # None stands for files that cannot be read: they are to be remarked.
    contents = group_by_series(_list_files_of_series(folder, (uid, None), check_cancelled), check_cancelled)
    images = contents.by_uid.get(uid, [])
    split: tuple[QCFlag, ...] = ()
    if not is_file(path) and uid != NO_SERIES_UID:
        images, split = _add_parts_below(folder, uid, images, check_cancelled)
    if not images:
        raise UnreadableScanError("not_found", f"{folder} holds no DICOM series {uid}.")
    found = make_series(uid, images)
    if is_file(path):
        found = tuple(series for series in found if path in {image.path for image in series.images})
    series = _require_single_pass(found, pass_name)
    return series, (*contents.remarks(), *series.flags, *split)


def _require_single_pass(passes: Sequence[SeriesFiles], name: str = "") -> SeriesFiles:
    """The pass of this name; without a name, the only one, or the only one to predict."""
    uid = passes[0].uid
    if name:
        found = [each for each in passes if each.pass_name == name]
    else:
        found = [each for each in passes if len(passes) == 1 or each.reason is None]
    if len(found) == 1:
        return found[0]
    names = ", ".join(each.name for each in passes)
    if name:
        raise UnreadableScanError("not_found", f"The series {uid} has no pass {name}; there is: {names}.")
    differing = ", ".join(dict.fromkeys(str(flag.value) for each in passes for flag in each.flags))
    raise RefusedScanError(
        "multiple_volumes", f"{uid} holds {len(passes)} scans that differ in {differing}; name one: {names}."
    )


def _add_parts_below(
    folder: Path, uid: str, images: list[DicomInstance], check_cancelled: Callable[[], None]
) -> tuple[list[DicomInstance], tuple[QCFlag, ...]]:
    """Images of a series, and those of the same identity in folders below; `DicomSeries` compares copies."""
    parts = {folder: images} if images else {}
    for below in _folders_of(folder):
        files = () if below == folder else _list_files_of_series(below, (uid,), check_cancelled)
        if part := [read_instance(file) for file in files]:
            parts[below] = part
    differing = differing_attributes(list(parts.values()))
    if not differing:
        return [image for part in parts.values() for image in part], ()
    if images:
        return images, (split_flag(differing),)
    names = ", ".join(part.relative_to(folder).as_posix() for part in list(parts)[:MAX_NAMED])
    raise RefusedScanError(
        "multiple_series",
        f"{uid} lies in {len(parts)} folders whose files differ in {', '.join(differing)}; "
        f"name one of their folders: {names}{', ...' if len(parts) > MAX_NAMED else ''}.",
    )


def _folders_of(folder: Path) -> Iterator[Path]:
    """A folder and those below that a search takes files from, archives and links among them."""
    for below, files in walk_folders(folder):
        if isinstance(files, list):
            yield below


def _list_files_of_series(
    folder: Path, series: Sequence[str | None], check_cancelled: Callable[[], None]
) -> Iterator[Path]:
    """DICOM files directly in a folder that belong to one of these series."""
    for file in list_dicom_files(folder):
        check_cancelled()
        if read_series_uid(file) in series:
            yield file


def _require_single_series(contents: FolderContents, folder: Path) -> SeriesFiles:
    """The one scan of a folder."""
    if len(contents.scans) == 1:
        return contents.scans[0]
    if len({series.uid for series in contents.scans}) == 1:
        return _require_single_pass(contents.scans)
    if contents.scans:
        uids = ", ".join(series.name for series in contents.scans)
        raise RefusedScanError(
            "multiple_series", f"{folder.name} holds {len(contents.scans)} series; name one: {uids}."
        )
    if contents.series and (reason := contents.series[0].reason):
        raise RefusedScanError(reason[0], f"{folder.name} holds {reason[1]}.")
    if contents.unreadable:
        raise contents.unreadable[0][1]
    raise UnreadableScanError("not_found", f"{folder.name} holds no DICOM images.")
