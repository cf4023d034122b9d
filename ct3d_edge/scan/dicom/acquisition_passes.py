"""The passes of a scanner over one part of the body whose slices share a series UID: found by what differs.

Inspiration and expiration, the phases of a heart beat, two kernels, with and without contrast agent. Headers alone
decide, so that a search of folders and the opening of a scan agree, and no file name, order or pixel matters.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.scan.dicom.consistency import POSITION_TOLERANCE_MM, SliceOf, have_common_grid
from ct3d_edge.scan.dicom.frames import HASH_DIGITS, PASS_FEATURES, PLAIN_NUMBER, hash_text
from ct3d_edge.scan.dicom.instance import DicomInstance
from ct3d_edge.scan.dicom.interleaving import MIN_SLICES_PER_PASS, are_interleaved, find_runs
from ct3d_edge.scan.dicom.slice_sorting import find_alternation
from ct3d_edge.scan.qc_flag import QCFlag

_Group = tuple[tuple[tuple[str, str], ...], Sequence[SliceOf]]

NO_VALUE = "none"
"""Stands in a name for the value of an attribute that a file does not give."""


@dataclass(frozen=True)
class AcquisitionPass:
    """One pass of a series.

    Parameters
    ----------
    values
        Attribute and value of each attribute that separates it from the others; none if the series is one pass.
    images
        Its files; of an enhanced one, with the frames of this pass. Localizers are in each pass.
    """

    values: tuple[tuple[str, str], ...]
    images: tuple[DicomInstance, ...]

    @property
    def name(self) -> str:
        """By which it can be opened again, whatever other passes there are: ``"AcquisitionNumber-2"``.

        Short numbers are shown. In place of a date, a text or an identity stands a hash of its first instance.
        """
        return ",".join(f"{attribute}-{self._show(value)}" for attribute, value in self.values)

    def _show(self, value: str) -> str:
        if not value or PLAIN_NUMBER.fullmatch(value):
            return value or NO_VALUE
        places = ((i.instance, f.number, f.position or ()) for i in self.images for f in i.frames if not f.is_localizer)
        return hash_text(repr(min(places)))[:HASH_DIGITS]


def split_passes(images: Sequence[DicomInstance]) -> tuple[AcquisitionPass, ...]:
    """The passes that files of one series come from, in the order of their first files; usually one.

    Attributes may change along one pass: from slice to slice, or from one table position to the next. An attribute
    separates passes where each continues, at its usual distance, through slices of the other; or where all slices
    together are no volume and those of each value are. If none does, the order of the slices may: see `find_runs`.
    """
    slices = [SliceOf(image, frame) for image in images for frame in image.frames if not frame.is_localizer]
    groups = list(_split(slices))
    if len(groups) < 2:
        return (AcquisitionPass((), tuple(images)),)
    return tuple(AcquisitionPass(values, _select_frames(images, group)) for values, group in groups)


def separating_attributes(passes: Sequence[AcquisitionPass]) -> tuple[str, ...]:
    """Names of the attributes that separate passes."""
    return tuple(dict.fromkeys(attribute for each in passes for attribute, _ in each.values))


def pass_flag(passes: Sequence[AcquisitionPass], name: str) -> QCFlag:
    """That the scan of this name is one of several passes."""
    named = ", ".join(separating_attributes(passes))
    detail = f"{name} is one of {len(passes)} passes under one series UID, which differ in {named}; each is a scan."
    return QCFlag("pass_split", "warn", detail, named)


def _split(slices: Sequence[SliceOf]) -> list[_Group]:
    """Slices of each pass, and the values that separate it."""
    whole: list[_Group] = [((), slices)]
    if not slices or any(each.frame.position is None or each.frame.orientation is None for each in slices):
        return whole
    varying, heights = _varying_attributes(slices), compute_heights(slices)
    interleaved = {name: values for name, values in varying.items() if are_interleaved(values, heights)}
    if not interleaved and (runs := find_runs(slices, heights)):
        interleaved = dict([runs])
    if not interleaved and may_be_one_volume(slices):
        return whole
    attempts = [_split_by(attribute, slices, values) for attribute, values in (interleaved or varying).items()]
    for groups in attempts:
        smallest = min(len(group) for _, group in groups)
        if all(may_be_one_volume(group) for _, group in groups) and (interleaved or smallest >= MIN_SLICES_PER_PASS):
            return groups
    return attempts[0] if interleaved else whole


def _split_by(attribute: str, slices: Sequence[SliceOf], values: Sequence[str]) -> list[_Group]:
    groups: dict[str, list[SliceOf]] = defaultdict(list)
    for slice_, value in zip(slices, values, strict=True):
        groups[value].append(slice_)
    return [
        (((attribute, value), *further), part)
        for value in sorted(groups, key=_rank)
        for further, part in _split(groups[value])
    ]


def _rank(value: str) -> tuple[bool, float, str]:
    """Numbers in their order, then hashes; independent of files."""
    plain = PLAIN_NUMBER.fullmatch(value) is not None
    return not plain, float(value) if plain else 0.0, value


def _varying_attributes(slices: Sequence[SliceOf]) -> dict[str, tuple[str, ...]]:
    columns = zip(PASS_FEATURES, zip(*(slice_.frame.passes for slice_ in slices), strict=True), strict=False)
    return {name: values for name, values in columns if len(set(values)) > 1}


def compute_heights(slices: Sequence[SliceOf]) -> NDArray[np.float64]:
    """Position of each slice in mm along the normal that most of them have, whatever their order."""
    counts = Counter(slice_.frame.orientation or () for slice_ in slices)
    usual, _ = max(counts.items(), key=lambda item: (item[1], item[0]))
    normal = np.cross(*np.array(usual, np.float64).reshape(2, 3))
    heights: NDArray[np.float64] = np.array([slice_.frame.position for slice_ in slices], np.float64) @ normal
    return heights


def may_be_one_volume(slices: Sequence[SliceOf]) -> bool:
    """Whether slices share a grid, no two different instances lie in one place, and distances do not alternate."""
    if not have_common_grid(slices):
        return False
    # A conflicting file of one instance counts where it lies, in whatever order files are read.
    distinct = {
        (each.image.instance or each.image.path, each.frame.number, each.frame.position): each for each in slices
    }
    steps = np.diff(np.sort(compute_heights(list(distinct.values()))))
    return not (steps < POSITION_TOLERANCE_MM).any() and find_alternation(steps) is None


def _select_frames(images: Sequence[DicomInstance], slices: Sequence[SliceOf]) -> tuple[DicomInstance, ...]:
    """The files of a pass, with the frames of the pass and the localizers."""
    wanted = {(slice_.image.path, slice_.frame.number) for slice_ in slices}
    parts = (
        replace(
            image,
            frames=tuple(frame for frame in image.frames if frame.is_localizer or (image.path, frame.number) in wanted),
        )
        for image in images
    )
    return tuple(part for part in parts if part.frames)
