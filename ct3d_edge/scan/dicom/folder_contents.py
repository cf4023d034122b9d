"""What the DICOM files of a folder are: series, passes of series, and which of those are scans to predict."""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.formatting import plural
from ct3d_edge.scan.archive import is_file, list_archive_folder
from ct3d_edge.scan.dicom.acquisition_passes import AcquisitionPass, pass_flag, split_passes
from ct3d_edge.scan.dicom.instance import CT_CLASSES, DicomInstance, read_instance
from ct3d_edge.scan.dicom.magic import NAME_SEPARATOR, NO_SERIES_UID, has_dicom_suffix, is_dicom
from ct3d_edge.scan.dicom.series_membership import (
    Identity,
    differing_identity,
    has_one_identity,
    identity_flag,
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
        """Flags of every series here: which of them a broken file belongs to cannot be known."""
        if not self.unreadable:
            return ()
        names = ", ".join(path.name for path, _ in self.unreadable[:MAX_NAMED])
        more = f" and {len(self.unreadable) - MAX_NAMED} more" if len(self.unreadable) > MAX_NAMED else ""
        detail = f"Beside the series, {plural(len(self.unreadable), 'file')} cannot be read: {names}{more}."
        return (QCFlag("unreadable_files", "warn", detail, len(self.unreadable)),)


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
