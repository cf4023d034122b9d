"""What a file declares to lie outside the field of view, where that would not look like air (PS3.3, C.7.5.1.1.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.scan.dicom.consistency import SliceOf
from ct3d_edge.scan.geometry_checks import mask_outside_fov
from ct3d_edge.scan.qc_flag import QCFlag

AIR_HU = -1024.0
"""HU put in place of padding that would else shine: what scanners write outside the field of view."""

MAX_AIR_HU = -1000.0
"""Padding of at most this many HU looks like air already."""

MAX_TISSUE_HU = 3071.0
"""The most that 12 bits hold: padding above is no tissue, wherever it lies."""

MAX_RANGE_HU = 100.0
"""A padding range that is wider and holds HU of tissue would erase the patient: it was declared wrongly."""


@dataclass(frozen=True)
class Padding:
    """Stored numbers, ``low`` to ``high`` inclusive, that are no part of the image.

    Parameters
    ----------
    like_tissue
        Whether tissue may hold them too: then only those that reach the edge of the image are padding.
    believable
        Whether they are few enough to be padding.
    """

    low: int
    high: int
    like_tissue: bool
    believable: bool

    def mask(self, plane: NDArray[Any]) -> NDArray[np.bool_]:
        """Pixels of a plane ``(rows, columns)`` that are padding."""
        padded: NDArray[np.bool_] = (plane >= self.low) & (plane <= self.high)
        return mask_outside_fov(padded, True) if self.like_tissue else padded


def find_padding(slice_: SliceOf) -> Padding | None:
    """What a slice declares as padding; None if it declares none, or none that would look like anything but air."""
    declared, storage, frame = slice_.image.padding, slice_.image.storage, slice_.frame
    if declared is None:
        return None
    bits = storage.allocated
    # Some writers give the value of an unsigned pixel with a sign, or the other way round.
    lowest = -(1 << (bits - 1)) if storage.signed else 0
    low, high = sorted((value - lowest) % (1 << bits) + lowest for value in declared)
    darkest, brightest = sorted(value * frame.slope + frame.intercept for value in (low, high))
    if brightest <= MAX_AIR_HU:
        return None
    like_tissue = darkest <= MAX_TISSUE_HU
    return Padding(low, high, like_tissue, not like_tissue or brightest - darkest <= MAX_RANGE_HU)


def padding_flags(slices: Sequence[SliceOf]) -> tuple[QCFlag, ...]:
    """What is declared as padding and does not look like air."""
    found = {(each.low, each.high): each for each in map(find_padding, slices) if each is not None}
    if not found:
        return ()
    values = [str(low) if low == high else f"{low} to {high}" for low, high in sorted(found)]
    named = ", ".join(values[:3]) + (", ..." if len(values) > 3 else "")
    if not all(each.believable for each in found.values()):
        detail = f"The range of padding values {named} holds the HU of tissue; it was not taken as padding."
    else:
        detail = f"The padding value {named} would shine; outside the field of view it was taken as air."
    return (QCFlag("pixel_padding", "warn", detail, next(iter(sorted(found)))[0] if len(values) == 1 else named),)
