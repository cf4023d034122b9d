"""Whether files that share a series UID belong to one series, and whether their slices come from one pass."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScan
from ct3d_edge.scan.dicom.alike import Slice
from ct3d_edge.scan.dicom.image import PASS_TAGS, SERIES_TAGS, Image
from ct3d_edge.scan.findings import Finding

LEAST = 3
"""Slices from which on those with one value of an attribute count as a pass."""

WOVEN = 0.25
"""Share of a shorter pass's length that another pass covers, from which on two lie in each other."""


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


def belong_together(images: Sequence[Image]) -> bool:
    """Whether nothing speaks against files of several folders being one series."""
    return len({image.patient for image in images}) <= 1 and not _differing(images)


def _differing(images: Sequence[Image]) -> list[str]:
    """Attributes that all files of a series share and these do not; one that a file lacks does not count."""
    # An overview picture is left out of the volume: it may have a number or frame of reference of its own.
    taken = [image for image in images if not all(frame.is_localizer for frame in image.frames)]
    values = zip(*(image.belongs for image in taken), strict=True)
    return [keyword for keyword, said in zip(SERIES_TAGS, values, strict=True) if len(set(said) - {""}) > 1]


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
    ranges = sorted((min(those), max(those)) for those in groups.values() if len(those) >= LEAST)
    reached: tuple[float, float] | None = None
    for low, high in ranges:
        if reached is not None:
            shorter = min(high - low, reached[1] - reached[0])
            if min(high, reached[1]) - low > WOVEN * shorter:
                return True
        if reached is None or high > reached[1]:
            reached = (low, high)
    return False
