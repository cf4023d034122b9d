"""Whether files that share a series UID belong to one series, in one folder and in several."""

from collections import defaultdict
from collections.abc import Sequence

from ct3d_edge.errors import RefusedScanError
from ct3d_edge.scan.dicom.acquisition_passes import may_be_one_volume, separating_attributes, split_passes
from ct3d_edge.scan.dicom.consistency import SliceOf
from ct3d_edge.scan.dicom.frames import hash_text
from ct3d_edge.scan.dicom.instance import DATE_TAGS, INFERRED_SERIES_TAGS, SERIES_TAGS, DicomInstance
from ct3d_edge.scan.dicom.interleaving import MIN_SLICES_PER_PASS
from ct3d_edge.scan.dicom.slice_sorting import sort_slices
from ct3d_edge.scan.qc_flag import QCFlag

UNIQUE_TAGS = ("StudyInstanceUID", "FrameOfReferenceUID")
"""Of `SERIES_TAGS`, those that all files in several folders have to give, or none, to be taken together."""

DIFFERENCE_NAMES = {
    "multiple_volumes": "slice positions of several passes",
    "inconsistent_slices": "matrix size, direction or pixel spacing",
    "conflicting_instances": "SOPInstanceUID and position",
}
"""Why slices of several folders do not make one stack, by code."""


def membership_flags(images: Sequence[DicomInstance]) -> tuple[QCFlag, ...]:
    """Several patients, studies, frames of reference or modalities under one series UID; no value is shown."""
    found = []
    if (patients := len({image.patient for image in images})) > 1:
        detail = f"Files of {patients} patients share one series UID."
        found.append(QCFlag("mixed_patients", "refuse", detail, patients))
    # A slice of another size is named with its file, where slices are sorted.
    if differing := [name for name in _differing(images) if name not in ("Rows", "Columns")]:
        named = ", ".join(differing)
        detail = f"Files of one series UID differ in {named}: they belong to several series. Separate them."
        found.append(QCFlag("mixed_series", "refuse", detail, named))
    if not images[0].series:
        detail = "The files have no SeriesInstanceUID; that they belong together was inferred from their folder."
        found.append(QCFlag("inferred_series", "warn", detail, len(images)))
    for name, values in _identity_hashes(images).items() if images[0].series else ():
        if name in UNIQUE_TAGS and (lacking := values.count("")) and lacking < len(values):
            detail = f"{lacking} of {len(values)} files have no {name}; that they belong together was inferred."
            found.append(QCFlag("inferred_series", "warn", detail, lacking))
    return tuple(found)


def differing_attributes(parts: Sequence[Sequence[DicomInstance]]) -> tuple[str, ...]:
    """What keeps files that lie in several folders from being taken together; nothing where they complete one another.

    A person may have separated them: an identity that only some of them give is a difference, and so is a pass that
    has a folder of its own. Attributes, no values.
    """
    if len(parts) < 2:
        return ()
    images = [image for part in parts for image in part]
    if identity := _differing_identity(images):
        return identity
    parts = _without_copies(parts)
    if len(parts) < 2:
        return ()
    images = [image for part in parts for image in part]
    passes = split_passes(images)
    if len(passes) == 1:
        return _differing_positions(images)
    folder_of = {image.path: number for number, part in enumerate(parts) for image in part}
    # Localizers are in each pass.
    files = [{i.path for i in each.images if not all(f.is_localizer for f in i.frames)} for each in passes]
    separated = all(len({folder_of[path] for path in those}) == 1 for those in files)
    return separating_attributes(passes) if separated else ()


def have_equal_instances(parts: Sequence[Sequence[DicomInstance]]) -> bool:
    """Whether each of several folders has files of the same SOPInstanceUIDs: as copies of a series have."""
    instances = {frozenset(image.instance for image in part) for part in parts}
    return len(instances) == 1 and all(image.instance for image in parts[0])


def _without_copies(parts: Sequence[Sequence[DicomInstance]]) -> list[list[DicomInstance]]:
    """Files of several folders, each instance once; a folder of which all lie in larger ones is left out."""
    found, seen = [], set[str]()
    for part in sorted(parts, key=len, reverse=True):
        if new := [image for image in part if not image.instance or image.instance not in seen]:
            found.append(new)
        seen |= {image.instance for image in part}
    return found


def has_one_identity(images: Sequence[DicomInstance]) -> bool:
    """Whether files of one series UID are of one patient, study, frame of reference, modality and series number."""
    return len({image.patient for image in images}) == 1 and not _differing(images)


Identity = tuple[tuple[str, str], ...]
"""Attributes that separate files of one series UID, with hashes of their values."""


def differing_identity(images: Sequence[DicomInstance]) -> tuple[str, ...]:
    """Attributes of which files of one series UID have several values; of PatientID, one may be none."""
    patients = {image.patient for image in images if not all(frame.is_localizer for frame in image.frames)}
    return (*(["PatientID"] if len(patients) > 1 else []), *_differing(images))


def split_identities(images: Sequence[DicomInstance]) -> tuple[tuple[Identity, tuple[DicomInstance, ...]], ...]:
    """Files of each patient, study, frame of reference, modality and series number; usually all are of one.

    Of several, each has to be a volume by itself: else all stay together, and are refused. Localizers are with the
    files of their patient and study.
    """
    whole = (((), tuple(images)),)
    slices = [image for image in images if not all(frame.is_localizer for frame in image.frames)]
    localizers = [image for image in images if all(frame.is_localizer for frame in image.frames)]
    differing = differing_identity(images)
    if not differing:
        return whole
    groups: dict[Identity, list[DicomInstance]] = defaultdict(list)
    columns = {"PatientID": tuple(image.patient for image in slices), **_identity_hashes(images)}
    for number, image in enumerate(slices):
        groups[tuple((name, columns[name][number]) for name in differing)].append(image)
    # One attribute is enough for a name where it separates as many.
    enough = next((n for n in range(len(differing)) if len({key[n] for key in groups}) == len(groups)), None)
    if enough is not None:
        groups = defaultdict(list, {(key[enough],): those for key, those in groups.items()})
    if not all(_is_volume(group) for group in groups.values()):
        return whole
    for image in localizers:
        owners = [
            those for those in groups.values() if (those[0].patient, those[0].study) == (image.patient, image.study)
        ]
        for those in owners:
            those.append(image)
    return tuple((values, tuple(those)) for values, those in sorted(groups.items()))


def _is_volume(images: Sequence[DicomInstance]) -> bool:
    """Whether files can be one volume, or several passes that are."""
    for each in split_passes(images):
        slices = [SliceOf(image, frame) for image in each.images for frame in image.frames if not frame.is_localizer]
        if len(slices) < MIN_SLICES_PER_PASS or not may_be_one_volume(slices):
            return False
    return True


def identity_flag(parts: int, attributes: Sequence[str]) -> QCFlag:
    """That a scan shares its series UID with others of another identity in its folder."""
    named = ", ".join(attributes)
    detail = f"Files of one series UID differ in {named}: {parts} scans, each by itself."
    return QCFlag("series_split", "warn", detail, named)


def _differing_identity(images: Sequence[DicomInstance]) -> tuple[str, ...]:
    patient = ("PatientID",) if len({image.patient for image in images}) > 1 else ()
    hashes = _identity_hashes(images)
    lacking = [name for name, values in hashes.items() if name in UNIQUE_TAGS and len(set(values)) > 1]
    return (*patient, *sorted({*_differing(images), *lacking}))


def _differing_positions(images: Sequence[DicomInstance]) -> tuple[str, ...]:
    slices = [SliceOf(image, frame) for image in images for frame in image.frames if not frame.is_localizer]
    try:
        if slices:
            sort_slices(slices, _are_copies)
    except RefusedScanError as error:
        return (DIFFERENCE_NAMES[error.code],) if error.code in DIFFERENCE_NAMES else ()
    return ()


def _are_copies(_one: SliceOf, _other: SliceOf) -> bool:
    """No: of files of different UIDs in one place, none is read before a person has named the scan."""
    return False


def split_flag(differing: Sequence[str]) -> QCFlag:
    """That files of the same series UID in folders below were left out; ``differing`` as of `differing_attributes`."""
    named = ", ".join(differing)
    detail = f"Files of the same series UID in folders below differ in {named}; they were left out."
    return QCFlag("series_split", "warn", detail, named)


def _differing(images: Sequence[DicomInstance]) -> list[str]:
    """Attributes that all files of a series share and these do not; one that a file lacks does not count."""
    return [name for name, values in _identity_hashes(images).items() if len(set(values) - {""}) > 1]


def _identity_hashes(images: Sequence[DicomInstance]) -> dict[str, tuple[str, ...]]:
    """What images say of each of `SERIES_TAGS`, hashed; and which of several periods of days they were made in."""
    # An overview picture is left out of the volume: it may have a number or frame of reference of its own.
    taken = [image for image in images if not all(frame.is_localizer for frame in image.frames)]
    names = (*SERIES_TAGS, *INFERRED_SERIES_TAGS)
    hashes = dict(zip(names, zip(*(image.series_hashes for image in taken), strict=True), strict=False))
    return hashes | _periods(taken)


def _periods(images: Sequence[DicomInstance]) -> dict[str, tuple[str, ...]]:
    """Hash of the first day of the period that each image was made in: a scan may pass midnight, and lasts no two days.

    By the first of `DATE_TAGS` that any of them gives.
    """
    for keyword, days in zip(DATE_TAGS, zip(*(image.days for image in images), strict=True), strict=False):
        known = sorted({day for day in days if day is not None})
        if known:
            starts = [day for day, before in zip(known, [known[0] - 2, *known], strict=False) if day - before > 1]
            periods = {day: hash_text(str(max(start for start in starts if start <= day))) for day in known}
            return {keyword: tuple("" if day is None else periods[day] for day in days)}
    return {}
