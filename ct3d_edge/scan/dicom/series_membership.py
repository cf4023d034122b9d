"""Whether files that share a series UID belong to one series, and whether their slices come from one pass."""

import itertools
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScan
from ct3d_edge.scan.dicom.consistency import SAME_PLACE, Slice
from ct3d_edge.scan.dicom.instance import PASS_TAGS, SERIES_TAGS, Image
from ct3d_edge.scan.dicom.slice_sorting import stack
from ct3d_edge.scan.qc_flag import Finding

CERTAIN = ("StudyInstanceUID", "FrameOfReferenceUID")
"""Of `SERIES_TAGS`, those that all files in several folders have to give, or none, to be taken together."""

APART = {
    "several_volumes": "slice positions of several passes",
    "mixed_slices": "matrix size, direction or pixel spacing",
    "conflicting_instances": "SOPInstanceUID and position",
}
"""Why slices of several folders do not make one stack, by code."""

LEAST = 3
"""Slices from which on those with one value of an attribute count as a pass."""

WOVEN = 0.25
"""Share of the slices of the smaller of two passes that have to lie in the other one."""

NEIGHBOURS = 1.5
"""Slices of a pass farther apart than this, in its usual distances, have a hole between them."""


def belonging_findings(images: Sequence[Image]) -> tuple[Finding, ...]:
    """Several patients, studies, frames of reference or modalities under one series UID; no value is shown."""
    found = []
    if (patients := len({image.patient for image in images})) > 1:
        detail = f"Files of {patients} patients share one series UID."
        found.append(Finding("mixed_patients", "refuse", detail, patients))
    if differing := _differing(images):
        named = ", ".join(differing)
        detail = f"Files of one series UID differ in {named}: they belong to several series. Separate them."
        found.append(Finding("mixed_series", "refuse", detail, named))
    if not images[0].series:
        detail = "The files have no SeriesInstanceUID; that they belong together was inferred from their folder."
        found.append(Finding("inferred_series", "warn", detail, len(images)))
    return tuple(found)


def differences(parts: Sequence[Sequence[Image]]) -> tuple[str, ...]:
    """What keeps files that lie in several folders from being one volume; nothing where they complete one another.

    A person may have separated them: an identity that only some of them give is a difference, and so are slices of
    one part that lie where, or between those, that another part has from another pass. Attributes, no values.
    """
    images = [image for part in parts for image in part]
    patient = ("PatientID",) if len({image.patient for image in images}) > 1 else ()
    lacking = [name for name, said in _identities(images).items() if name in CERTAIN and len(set(said)) > 1]
    return (*patient, *sorted({*_differing(images), *lacking})) or (() if overlap(parts) else _positions(images))


def overlap(parts: Sequence[Sequence[Image]]) -> bool:
    """Whether an instance lies in several folders: they hold copies of a series, each of them whole."""
    instances = [image.instance for part in parts for image in part]
    return len(set(instances)) < len(instances)


def _positions(images: Sequence[Image]) -> tuple[str, ...]:
    slices = [Slice(image, frame) for image in images for frame in image.frames if not frame.is_localizer]
    try:
        if slices:
            require_one_pass(stack(slices, _are_copies).slices)
    except RefusedScan as error:
        return (APART[error.code],) if error.code in APART else ()
    return ()


def _are_copies(_one: Slice, _other: Slice) -> bool:
    """No: of files of different UIDs in one place, none is read before a person has named the scan."""
    return False


def split_finding(differing: Sequence[str]) -> Finding:
    """That files of the same series UID in folders below were left out; ``differing`` as of `differences`."""
    named = ", ".join(differing)
    detail = f"Files of the same series UID in folders below differ in {named}; they were left out."
    return Finding("identity_split", "warn", detail, named)


def _differing(images: Sequence[Image]) -> list[str]:
    """Attributes that all files of a series share and these do not; one that a file lacks does not count."""
    return [name for name, said in _identities(images).items() if len(set(said) - {""}) > 1]


def _identities(images: Sequence[Image]) -> dict[str, tuple[str, ...]]:
    """What images say of each of `SERIES_TAGS`, hashed."""
    # An overview picture is left out of the volume: it may have a number or frame of reference of its own.
    taken = [image for image in images if not all(frame.is_localizer for frame in image.frames)]
    return dict(zip(SERIES_TAGS, zip(*(image.belongs for image in taken), strict=True), strict=False))


def require_one_pass(slices: Sequence[Slice]) -> None:
    """See that slices do not come from several passes over the same part of the body, by what tells passes apart.

    Attributes may change along a sound series: from slice to slice, or from one table position to the next. Only
    groups whose ranges lie in each other are passes.

    Raises
    ------
    RefusedScan
        ``several_volumes``; the attributes are named, not their values.
    """
    normal = np.cross(*np.array(slices[0].frame.orientation, np.float64).reshape(2, 3))
    heights = np.array([slice_.frame.position for slice_ in slices], np.float64) @ normal
    columns = list(zip(*(slice_.image.passes for slice_ in slices), strict=True))
    columns.append(tuple("\\".join(slice_.frame.kind) for slice_ in slices))
    named = [key for key, values in zip((*PASS_TAGS, "ImageType"), columns, strict=True) if _woven(values, heights)]
    if named:
        raise RefusedScan(
            "several_volumes",
            f"Slices of several passes lie in each other; they differ in {', '.join(named)}. "
            "Export each pass as a series of its own.",
        )


def _woven(values: Sequence[str], heights: NDArray[np.float64]) -> bool:
    groups: dict[str, list[float]] = defaultdict(list)
    for value, height in zip(values, heights, strict=True):
        groups[value].append(float(height))
    passes = [np.unique(those) for those in groups.values() if len(those) >= LEAST]
    return any(_lie_in_each_other(one, other) for one, other in itertools.combinations(passes, 2))


def _lie_in_each_other(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether each of two runs of heights goes on, at its usual distance, where slices of the other lie.

    Where they share one grid instead, the one has holes where slices of the other lie.
    """
    fewest, most = sorted((_inside(one, other), _inside(other, one)))
    return fewest >= max(LEAST - 1, WOVEN * min(len(one), len(other))) and most >= LEAST


def _inside(some: NDArray[np.float64], others: NDArray[np.float64]) -> int:
    """How many of some heights lie between two of the others that are neighbours, or on one of them."""
    if len(others) < 2 or some[0] > others[-1] or some[-1] < others[0]:
        return 0
    steps = np.diff(others)
    above = np.clip(np.searchsorted(others, some, "right"), 1, len(steps))
    between = (steps[above - 1] <= NEIGHBOURS * np.median(steps)) & (some >= others[0]) & (some <= others[-1])
    on_one = np.minimum(np.abs(some - others[above - 1]), np.abs(some - others[above])) < SAME_PLACE
    return int(np.count_nonzero(between | on_one))
