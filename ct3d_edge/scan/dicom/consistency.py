"""What the slices of one volume have in common, and whether files that claim to be one instance are copies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScanError
from ct3d_edge.scan.dicom.frames import Frame
from ct3d_edge.scan.dicom.instance import DicomInstance

DIRECTION_TOLERANCE = 1e-3
"""Largest difference of two direction cosines that are meant to be equal: 0.06 degrees."""

SPACING_TOLERANCE = 1e-3
"""Largest relative difference of two spacings that are meant to be equal."""

POSITION_TOLERANCE_MM = 1e-2
"""Slices nearer to each other than this, in mm, lie in the same place; no scanner makes thinner ones."""

COMPARED_ATTRIBUTES = {"size": "size", "orientation": "direction", "spacing": "pixel spacing"}
"""What all slices of a volume share, with the words for it."""

MAX_NAMED_FILES = 3
"""Files named in a message."""


@dataclass(frozen=True)
class SliceOf:
    """One frame of one file."""

    image: DicomInstance
    frame: Frame


def require_common_grid(
    slices: Sequence[SliceOf],
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, ...]]:
    """Directions of a row and of a column ``(3,)``, LPS+, and spacing in mm, that all slices share.

    Raises
    ------
    RefusedScanError
        ``no_geometry`` if slices do not say where they lie; ``inconsistent_slices`` if they differ.
    """
    for slice_ in slices:
        frame = slice_.frame
        if frame.position is None or frame.orientation is None or frame.spacing is None:
            raise RefusedScanError("no_geometry", f"{slice_.image.path.name} does not say where its pixels lie.")
    for feature in () if have_common_grid(slices) else COMPARED_ATTRIBUTES:
        _require_same(slices, feature)
    first = slices[0]
    directions = np.array(first.frame.orientation, np.float64).reshape(2, 3)
    spacing = first.frame.spacing or ()
    if not np.allclose(directions @ directions.T, np.eye(2), rtol=0, atol=DIRECTION_TOLERANCE) or min(spacing) <= 0:
        raise RefusedScanError("no_geometry", f"{first.image.path.name} gives directions or distances that cannot be.")
    return directions[0], directions[1], spacing


def have_common_grid(slices: Sequence[SliceOf]) -> bool:
    """Whether slices agree in all of `COMPARED_ATTRIBUTES` with the first, and say where they lie."""
    frames = [slice_.frame for slice_ in slices]
    if any(frame.position is None or frame.orientation is None or frame.spacing is None for frame in frames):
        return False
    directions = np.array([frame.orientation for frame in frames], np.float64)
    spacings = np.array([frame.spacing for frame in frames], np.float64)
    return (
        len({(slice_.image.rows, slice_.image.columns) for slice_ in slices}) == 1
        and bool((np.abs(directions - directions[0]) <= DIRECTION_TOLERANCE).all())
        and bool((np.abs(spacings - spacings[0]) <= SPACING_TOLERANCE * np.abs(spacings[0])).all())
    )


def _require_same(slices: Sequence[SliceOf], feature: str) -> None:
    """See that slices agree in one of `COMPARED_ATTRIBUTES`; of those that do not, the fewest are named."""
    kinds: list[list[SliceOf]] = []
    for slice_ in slices:
        alike = next((kind for kind in kinds if _agree(slice_, kind[0], feature)), None)
        if alike is None:
            kinds.append(alike := [])
        alike.append(slice_)
    if len(kinds) == 1:
        return
    odd = [slice_ for kind in sorted(kinds, key=len)[:-1] for slice_ in kind]
    detail = f"{len(odd)} of {len(slices)} slices differ from the others in {COMPARED_ATTRIBUTES[feature]}"
    raise RefusedScanError(
        "inconsistent_slices", f"{detail}: {list_file_names(odd)}. Remove them, or export each kind by itself."
    )


def _agree(one: SliceOf, other: SliceOf, feature: str) -> bool:
    if feature == "size":
        return (one.image.rows, one.image.columns) == (other.image.rows, other.image.columns)
    first, second = getattr(one.frame, feature), getattr(other.frame, feature)
    if first is None or second is None:
        return first is second
    relative, absolute = (SPACING_TOLERANCE, 0.0) if feature == "spacing" else (0.0, DIRECTION_TOLERANCE)
    return bool(np.allclose(first, second, rtol=relative, atol=absolute))


def require_identical_duplicates(slices: Sequence[SliceOf], same_pixels: Callable[[SliceOf, SliceOf], bool]) -> None:
    """See that files of one SOPInstanceUID are copies, before any of them is dropped: file names decide nothing.

    Raises
    ------
    RefusedScanError
        ``conflicting_instances`` if they differ in pixels, size or place.
    """
    seen: dict[tuple[str, int], SliceOf] = {}
    for slice_ in slices:
        other = seen.setdefault((slice_.image.instance, slice_.frame.number), slice_)
        if other is slice_ or not slice_.image.instance:
            continue
        lying_alike = all(_agree(slice_, other, feature) for feature in COMPARED_ATTRIBUTES) and _same_position(
            slice_, other
        )
        if not (lying_alike and same_pixels(slice_, other)):
            raise RefusedScanError(
                "conflicting_instances",
                f"{list_file_names([slice_, other])} have one SOPInstanceUID and differ: "
                "which of them belongs to the series is not known. Export the series again.",
            )


def _same_position(one: SliceOf, other: SliceOf) -> bool:
    first, second = one.frame.position, other.frame.position
    if first is None or second is None:
        return first is second
    return bool(np.allclose(first, second, rtol=0, atol=POSITION_TOLERANCE_MM))


def list_file_names(slices: Sequence[SliceOf]) -> str:
    """Names of the files of slices, at most `MAX_NAMED_FILES`; with their folders where two have one name."""
    paths = {slice_.image.path for slice_ in slices}
    alike = len({path.name for path in paths}) < len(paths)
    names = sorted(f"{path.parent.name}/{path.name}" if alike else path.name for path in paths)
    more = f" and {len(names) - MAX_NAMED_FILES} more" if len(names) > MAX_NAMED_FILES else ""
    return ", ".join(names[:MAX_NAMED_FILES]) + more
