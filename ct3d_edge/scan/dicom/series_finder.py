"""DICOM files in a folder: which series they form, and which of those are scans to predict."""

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.formatting import plural
from ct3d_edge.scan.archive import is_file, is_folder, list_archive_folder
from ct3d_edge.scan.dicom.acquisition_passes import AcquisitionPass, pass_flag, split_passes
from ct3d_edge.scan.dicom.instance import CT_CLASSES, DicomInstance, read_instance, read_series_uid
from ct3d_edge.scan.dicom.magic import (
    NAME_SEPARATOR,
    NO_SERIES_UID,
    has_dicom_suffix,
    is_dicom,
    is_dicomdir,
    split_series_name,
)
from ct3d_edge.scan.dicom.series import DicomSeries
from ct3d_edge.scan.dicom.series_membership import (
    Identity,
    differing_attributes,
    differing_identity,
    has_one_identity,
    identity_flag,
    split_flag,
    split_identities,
)
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.qc_flag import QCFlag

MAX_NAMED = 3
"""Files and folders named in a message."""


@dataclass(frozen=True)
class SeriesFiles:
    """Files of one series, or of one pass of it.

    Parameters
    ----------
    uid
        Its SeriesInstanceUID, or `NO_SERIES_UID`.
    images
        Sorted by path.
    reason
        Code and sentence why it is no scan to predict, or None.
    pass_name
        Of one pass of several under the UID, see `AcquisitionPass.name`; else empty.
    flags
        That it is one pass of several.
    """

    uid: str
    images: tuple[DicomInstance, ...]
    reason: tuple[str, str] | None
    pass_name: str = ""
    flags: tuple[QCFlag, ...] = ()

    @property
    def name(self) -> str:
        """By which it is found in its folder."""
        return self.uid + (NAME_SEPARATOR + self.pass_name if self.pass_name else "")


@dataclass(frozen=True)
class FolderContents:
    """What the DICOM files of a folder are.

    Parameters
    ----------
    by_uid
        Files by SeriesInstanceUID or `NO_SERIES_UID`, those of the first file first.
    unreadable
        Files that should be DICOM and cannot be read, with the reason.
    not_images
        DICOM files without an image: reports, plans, the DICOMDIR.
    """

    by_uid: dict[str, list[DicomInstance]]
    unreadable: tuple[tuple[Path, UnreadableScanError], ...]
    not_images: tuple[Path, ...]

    @cached_property
    def series(self) -> tuple[SeriesFiles, ...]:
        """All series, each pass by itself."""
        return tuple(itertools.chain.from_iterable(make_series(uid, images) for uid, images in self.by_uid.items()))

    @property
    def scans(self) -> tuple[SeriesFiles, ...]:
        """Those that are scans to predict."""
        return tuple(series for series in self.series if series.reason is None)

    def remarks(self) -> tuple[QCFlag, ...]:
        """What is to be said of every series here: which of them a broken file belongs to cannot be known."""
        if not self.unreadable:
            return ()
        names = ", ".join(path.name for path, _ in self.unreadable[:MAX_NAMED])
        more = f" and {len(self.unreadable) - MAX_NAMED} more" if len(self.unreadable) > MAX_NAMED else ""
        detail = f"Beside the series, {plural(len(self.unreadable), 'file')} cannot be read: {names}{more}."
        return (QCFlag("unreadable_files", "warn", detail, len(self.unreadable)),)


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


def make_series(uid: str, images: Sequence[DicomInstance]) -> tuple[SeriesFiles, ...]:
    """Files of one series UID as one series, or as one for each identity and each pass in it."""
    parts = split_identities(images)
    flags = (identity_flag(len(parts), differing_identity(images)),) if len(parts) > 1 else ()
    return tuple(itertools.chain.from_iterable(_make_passes(uid, values, those, flags) for values, those in parts))


def _make_passes(
    uid: str, identity: Identity, images: Sequence[DicomInstance], flags: tuple[QCFlag, ...]
) -> Iterator[SeriesFiles]:
    """The passes in files of one of several identities."""
    # Files of several patients or studies that cannot be separated are refused when they are opened.
    passes = split_passes(images) if identity or has_one_identity(images) else (AcquisitionPass((), tuple(images)),)
    if _share_instances(passes):  # one of them is not what it says: refused when they are opened
        passes = (AcquisitionPass((), tuple(images)),)
    for each in passes:
        named = AcquisitionPass((*identity, *each.values), each.images)
        own = (pass_flag(passes, named.name),) if len(passes) > 1 else ()
        yield SeriesFiles(uid, each.images, _skip_reason(each.images), named.name, (*flags, *own))


def _share_instances(passes: Sequence[AcquisitionPass]) -> bool:
    """Whether two files of one SOPInstanceUID are of different passes."""
    passes_of: dict[tuple[str, Path], set[int]] = defaultdict(set)
    for number, each in enumerate(passes):
        for image in each.images:
            passes_of[image.instance, image.path].add(number)
    by_instance: dict[str, set[int]] = {}
    return any(by_instance.setdefault(uid, numbers) != numbers for (uid, _), numbers in passes_of.items() if uid)


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
    """A folder or archive and those below it, parents first; hidden ones, links and archives below do not count."""
    inside = list_archive_folder(folder)
    if inside is not None:
        yield folder
        for below in inside[1]:
            yield from () if below.name.startswith(".") else _folders_of(below)
        return
    for parent, folders, _ in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(parent)


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


def list_dicom_files(folder: Path) -> list[Path]:
    """Files directly in a folder that are DICOM or are named so, sorted; hidden ones do not count.

    Raises
    ------
    UnreadableScanError
        ``not_found``, ``unreadable`` if the folder cannot be searched.
    """
    try:
        inside = list_archive_folder(folder)
        found = folder.iterdir() if inside is None else inside[0]
        files = sorted(path for path in found if not path.name.startswith(".") and is_file(path))
    except OSError as error:
        code = "not_found" if isinstance(error, FileNotFoundError) else "unreadable"
        raise UnreadableScanError(code, f"{folder.name} cannot be searched: {error.strerror or error}.") from error
    return [path for path in files if has_dicom_suffix(path) or is_dicom(path)]


def group_by_series(files: Iterable[Path], check_cancelled: Callable[[], None] = no_cancellation) -> FolderContents:
    """Group files by series."""
    groups: dict[str, list[DicomInstance]] = defaultdict(list)
    broken: list[tuple[Path, UnreadableScanError]] = []
    other = []
    for path in files:
        check_cancelled()
        try:
            image = read_instance(path)
        except UnreadableScanError as error:
            if error.code == "no_pixel_data":
                other.append(path)
            else:
                broken.append((path, error))
            continue
        groups[image.series or NO_SERIES_UID].append(image)
    return FolderContents(dict(groups), tuple(broken), tuple(other))


def _skip_reason(images: Sequence[DicomInstance]) -> tuple[str, str] | None:
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
    if all(frame.projection for frame in frames):
        return "derived", f"projected from several slices each ({frames[0].projection})"
    return None
