"""Whether files that share a series UID belong to one series, and whether their slices come from one pass."""

import itertools
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScanError
from ct3d_edge.scan.dicom.consistency import POSITION_TOLERANCE_MM, SliceOf
from ct3d_edge.scan.dicom.instance import PASS_TAGS, SERIES_TAGS, DicomInstance
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

MIN_SLICES_PER_PASS = 3
"""Slices from which on those with one value of an attribute count as a pass."""

INTERLEAVED_FRACTION = 0.25
"""Share of the slices of the smaller of two passes that have to lie in the other one."""

MAX_GAP_STEPS = 1.5
"""Slices of a pass farther apart than this, in its usual distances, have a hole between them."""


def membership_flags(images: Sequence[DicomInstance]) -> tuple[QCFlag, ...]:
    """Several patients, studies, frames of reference or modalities under one series UID; no value is shown."""
    found = []
    if (patients := len({image.patient for image in images})) > 1:
        detail = f"Files of {patients} patients share one series UID."
        found.append(QCFlag("mixed_patients", "refuse", detail, patients))
    if differing := _differing(images):
        named = ", ".join(differing)
        detail = f"Files of one series UID differ in {named}: they belong to several series. Separate them."
        found.append(QCFlag("mixed_series", "refuse", detail, named))
    if not images[0].series:
        detail = "The files have no SeriesInstanceUID; that they belong together was inferred from their folder."
        found.append(QCFlag("inferred_series", "warn", detail, len(images)))
    return tuple(found)


def differing_attributes(parts: Sequence[Sequence[DicomInstance]]) -> tuple[str, ...]:
    """What keeps files that lie in several folders from being one volume; nothing where they complete one another.

    A person may have separated them: an identity that only some of them give is a difference, and so are slices of
    one part that lie where, or between those, that another part has from another pass. Attributes, no values.
    """
    images = [image for part in parts for image in part]
    patient = ("PatientID",) if len({image.patient for image in images}) > 1 else ()
    lacking = [name for name, said in _identity_hashes(images).items() if name in UNIQUE_TAGS and len(set(said)) > 1]
    return (*patient, *sorted({*_differing(images), *lacking})) or (
        () if have_common_instances(parts) else _positions(images)
    )


def have_common_instances(parts: Sequence[Sequence[DicomInstance]]) -> bool:
    """Whether an instance lies in several folders: they hold copies of a series, each of them whole."""
    instances = [image.instance for part in parts for image in part]
    return len(set(instances)) < len(instances)


def _positions(images: Sequence[DicomInstance]) -> tuple[str, ...]:
    slices = [SliceOf(image, frame) for image in images for frame in image.frames if not frame.is_localizer]
    try:
        if slices:
            require_single_acquisition(sort_slices(slices, _are_copies).slices)
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
    return [name for name, said in _identity_hashes(images).items() if len(set(said) - {""}) > 1]


def _identity_hashes(images: Sequence[DicomInstance]) -> dict[str, tuple[str, ...]]:
    """What images say of each of `SERIES_TAGS`, hashed."""
    # An overview picture is left out of the volume: it may have a number or frame of reference of its own.
    taken = [image for image in images if not all(frame.is_localizer for frame in image.frames)]
    return dict(zip(SERIES_TAGS, zip(*(image.series_hashes for image in taken), strict=True), strict=False))


def require_single_acquisition(slices: Sequence[SliceOf]) -> None:
    """See that slices do not come from several passes over the same part of the body, by what tells passes apart.

    Attributes may change along a sound series: from slice to slice, or from one table position to the next. Only
    groups whose ranges lie in each other are passes.

    Raises
    ------
    RefusedScanError
        ``multiple_volumes``; the attributes are named, not their values.
    """
    normal = np.cross(*np.array(slices[0].frame.orientation, np.float64).reshape(2, 3))
    heights = np.array([slice_.frame.position for slice_ in slices], np.float64) @ normal
    columns = list(zip(*(slice_.image.passes for slice_ in slices), strict=True))
    columns.append(tuple("\\".join(slice_.frame.kind) for slice_ in slices))
    named = [
        key for key, values in zip((*PASS_TAGS, "ImageType"), columns, strict=True) if _are_interleaved(values, heights)
    ]
    if named:
        raise RefusedScanError(
            "multiple_volumes",
            f"Slices of several passes lie in each other; they differ in {', '.join(named)}. "
            "Export each pass as a series of its own.",
        )


def _are_interleaved(values: Sequence[str], heights: NDArray[np.float64]) -> bool:
    groups: dict[str, list[float]] = defaultdict(list)
    for value, height in zip(values, heights, strict=True):
        groups[value].append(float(height))
    passes = [np.unique(those) for those in groups.values() if len(those) >= MIN_SLICES_PER_PASS]
    return any(_ranges_interleave(one, other) for one, other in itertools.combinations(passes, 2))


def _ranges_interleave(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether each of two runs of heights goes on, at its usual distance, where slices of the other lie.

    Where they share one grid instead, the one has holes where slices of the other lie.
    """
    fewest, most = sorted((_count_inside(one, other), _count_inside(other, one)))
    return (
        fewest >= max(MIN_SLICES_PER_PASS - 1, INTERLEAVED_FRACTION * min(len(one), len(other)))
        and most >= MIN_SLICES_PER_PASS
    )


def _count_inside(some: NDArray[np.float64], others: NDArray[np.float64]) -> int:
    """How many of some heights lie between two of the others that are neighbours, or on one of them."""
    if len(others) < 2 or some[0] > others[-1] or some[-1] < others[0]:
        return 0
    steps = np.diff(others)
    above = np.clip(np.searchsorted(others, some, "right"), 1, len(steps))
    between = (steps[above - 1] <= MAX_GAP_STEPS * np.median(steps)) & (some >= others[0]) & (some <= others[-1])
    on_one = np.minimum(np.abs(some - others[above - 1]), np.abs(some - others[above])) < POSITION_TOLERANCE_MM
    return int(np.count_nonzero(between | on_one))
