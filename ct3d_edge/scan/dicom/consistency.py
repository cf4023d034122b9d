"""What the slices of one volume have in common, and whether files that claim to be one instance are copies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScan
from ct3d_edge.scan.dicom.frames import Frame
from ct3d_edge.scan.dicom.instance import Image

SAME_DIRECTION = 1e-3
"""Largest difference of two direction cosines that are meant to be equal: 0.06 degrees."""

SAME_SPACING = 1e-3
"""Largest relative difference of two spacings that are meant to be equal."""

SAME_PLACE = 1e-2
"""Slices nearer to each other than this, in mm, lie in the same place; no scanner makes thinner ones."""

FEATURES = {"size": "size", "orientation": "direction", "spacing": "pixel spacing"}
"""What all slices of a volume share, with the words for it."""

NAMED = 3
"""Files named in a message."""


@dataclass(frozen=True)
class Slice:
    """One frame of one file."""

    image: Image
    frame: Frame


def common_grid(slices: Sequence[Slice]) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[float, ...]]:
    """Directions of a row and of a column ``(3,)``, LPS+, and spacing in mm, that all slices share.

    Raises
    ------
    RefusedScan
        ``no_geometry`` if slices do not say where they lie; ``mixed_slices`` if they differ.
    """
    for slice_ in slices:
        frame = slice_.frame
        if frame.position is None or frame.orientation is None or frame.spacing is None:
            raise RefusedScan("no_geometry", f"{slice_.image.path.name} does not say where its pixels lie.")
    for feature in FEATURES:
        _require_same(slices, feature)
    first = slices[0]
    directions = np.array(first.frame.orientation, np.float64).reshape(2, 3)
    spacing = first.frame.spacing or ()
    if not np.allclose(directions @ directions.T, np.eye(2), rtol=0, atol=SAME_DIRECTION) or min(spacing) <= 0:
        raise RefusedScan("no_geometry", f"{first.image.path.name} gives directions or distances that cannot be.")
    return directions[0], directions[1], spacing


def _require_same(slices: Sequence[Slice], feature: str) -> None:
    """See that slices agree in one of `FEATURES`; of those that do not, the fewest are named."""
    kinds: list[list[Slice]] = []
    for slice_ in slices:
        alike = next((kind for kind in kinds if _agree(slice_, kind[0], feature)), None)
        if alike is None:
            kinds.append(alike := [])
        alike.append(slice_)
    if len(kinds) == 1:
        return
    odd = [slice_ for kind in sorted(kinds, key=len)[:-1] for slice_ in kind]
    detail = f"{len(odd)} of {len(slices)} slices differ from the others in {FEATURES[feature]}"
    raise RefusedScan("mixed_slices", f"{detail}: {named_files(odd)}. Remove them, or export each kind by itself.")


def _agree(one: Slice, other: Slice, feature: str) -> bool:
    if feature == "size":
        return (one.image.rows, one.image.columns) == (other.image.rows, other.image.columns)
    first, second = getattr(one.frame, feature), getattr(other.frame, feature)
    if first is None or second is None:
        return first is second
    relative, absolute = (SAME_SPACING, 0.0) if feature == "spacing" else (0.0, SAME_DIRECTION)
    return bool(np.allclose(first, second, rtol=relative, atol=absolute))


def require_copies(slices: Sequence[Slice], same_pixels: Callable[[Slice, Slice], bool]) -> None:
    """See that files of one SOPInstanceUID are copies, before any of them is dropped: file names decide nothing.

    Raises
    ------
    RefusedScan
        ``conflicting_instances`` if they differ in pixels, size or place.
    """
    seen: dict[tuple[str, int], Slice] = {}
    for slice_ in slices:
        other = seen.setdefault((slice_.image.instance, slice_.frame.number), slice_)
        if other is slice_ or not slice_.image.instance:
            continue
        lying_alike = all(_agree(slice_, other, feature) for feature in FEATURES) and _same_place(slice_, other)
        if not (lying_alike and same_pixels(slice_, other)):
            raise RefusedScan(
                "conflicting_instances",
                f"{named_files([slice_, other])} have one SOPInstanceUID and differ: "
                "which of them belongs to the series is not known. Export the series again.",
            )


def _same_place(one: Slice, other: Slice) -> bool:
    first, second = one.frame.position, other.frame.position
    if first is None or second is None:
        return first is second
    return bool(np.allclose(first, second, rtol=0, atol=SAME_PLACE))


def named_files(slices: Sequence[Slice]) -> str:
    """Names of the files of slices, at most `NAMED`."""
    names = sorted({slice_.image.path.name for slice_ in slices})
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
