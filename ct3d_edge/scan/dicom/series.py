"""A DICOM series as a scan whose planes are decoded one by one."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScan, UnreadableScan
from ct3d_edge.formatting import plural
from ct3d_edge.scan.dicom.consistency import Slice, named_files
from ct3d_edge.scan.dicom.instance import Image
from ct3d_edge.scan.dicom.pixel_decoder import planes, require_readable, stored_dtype
from ct3d_edge.scan.dicom.series_membership import belonging_findings, require_one_pass
from ct3d_edge.scan.dicom.slice_sorting import Stack, stack
from ct3d_edge.scan.gzip_reader import go_on
from ct3d_edge.scan.qc_flag import Finding
from ct3d_edge.scan.volume import Scan

AIR = -1024.0
"""HU put in place of padding that would else shine: what scanners write outside the field of view."""

SCALE = ("RescaleSlope", "RescaleIntercept")
"""What makes HU of stored numbers: both are there, or neither."""

NEEDED = ("PixelRepresentation", "BitsStored", "HighBit", *SCALE)
"""Elements that all slices of a series have, or none has."""

LIKE_AIR = -1000.0
"""Padding of at most this many HU looks like air already."""


class DicomSeries(Scan):
    """A series of DICOM files, or one file of many frames, whose headers have been read.

    Slices lie in order along their normal. Memory stays at one plane. The stored numbers are given as they are as
    long as slope and intercept are the same in all slices and padding looks like air; else planes are HU in float32.

    Parameters
    ----------
    path
        What the series is called.
    images
        Its files, in any order; all of one series.
    remarks
        What finding them noticed.
    on_block
        Called after each plane that was read; what it raises ends the reading.

    Raises
    ------
    RefusedScan
        ``localizer``, ``unsupported_dtype``; ``no_geometry``, ``mixed_slices``, ``single_slice``,
        ``several_volumes``, ``conflicting_instances``: see `stack`; ``mixed_patients``, ``mixed_series`` where that is
        why they cannot be stacked; ``missing_element``.
    UnreadableScan
        ``truncated``, ``too_large``, ``dicom_plugin``, ``bad_pixels``, ``bad_header``.
    """

    def __init__(
        self,
        path: Path,
        images: Sequence[Image],
        remarks: Sequence[Finding] = (),
        on_block: Callable[[], None] = go_on,
    ) -> None:
        start = time.perf_counter()
        self.path, self._on_block = path, on_block
        slices, localizers = _without_localizers(images)
        for image in images:
            require_readable(image)
        _require_elements(slices)
        belonging = belonging_findings(images)
        self._stack = ordered = _stacked(slices, belonging)
        self._first = ordered.slices[0].image
        self.affine = ordered.affine
        scalings = Counter((slice_.frame.slope, slice_.frame.intercept) for slice_ in ordered.slices)
        self._padding = _bright_padding(ordered.slices)
        self._in_hu = len(scalings) > 1 or self._padding is not None
        self.slope, self.intercept = (1.0, 0.0) if self._in_hu else next(iter(scalings))
        said = (*remarks, *belonging, *_series_findings(images, localizers))
        self.findings = (*said, *ordered.findings, *self._pixel_findings())
        self.reading_ms = (time.perf_counter() - start) * 1e3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(i, j, k)``: columns, rows, slices."""
        return self._first.columns, self._first.rows, len(self._stack.slices)

    @property
    def dtype(self) -> np.dtype[Any]:
        """How planes are given."""
        if self._in_hu:
            return np.dtype(np.float32)
        return np.result_type(*{stored_dtype(slice_.image) for slice_ in self._stack.slices})

    def planes(self, needed: Iterable[int]) -> Iterator[NDArray[Any]]:
        """Decode planes of constant ``k``, each ``(j, i)``; files of other planes are not opened.

        Raises
        ------
        UnreadableScan
            ``bad_pixels``, ``truncated``, ``unreadable``, ``not_found``.
        """
        wanted = (self._stack.slices[index] for index in needed)
        for _, run in itertools.groupby(wanted, key=lambda slice_: slice_.image.path):
            slices = list(run)  # of one file: an enhanced one is opened once
            decoded = planes(slices[0].image, [slice_.frame.number for slice_ in slices])
            for slice_ in slices:
                start = time.perf_counter()
                plane = self._given(next(decoded), slice_)
                self.reading_ms += (time.perf_counter() - start) * 1e3
                self._on_block()
                yield plane

    def _given(self, plane: NDArray[Any], slice_: Slice) -> NDArray[Any]:
        """A decoded plane in the form that `dtype`, slope and intercept promise."""
        if not self._in_hu:
            return plane.astype(self.dtype, copy=False)
        hu = plane.astype(np.float32)
        hu *= slice_.frame.slope
        hu += slice_.frame.intercept
        if self._padding is not None:
            hu[plane == self._padding] = AIR
        return hu

    def _pixel_findings(self) -> tuple[Finding, ...]:
        """What is to be said about units and padding."""
        said = {slice_.frame.units for slice_ in self._stack.slices}
        found = []
        if None in said:
            found.append(Finding("rescale", "warn", "No rescale slope is given; stored numbers were taken as HU."))
        if others := said - {None, "", "HU"}:
            named = ", ".join(sorted(map(str, others)))
            found.append(Finding("rescale", "warn", f"The file calls its units {named}, not HU.", named))
        if self._padding is not None:
            detail = f"The padding value {self._padding} would shine; it was taken as air."
            found.append(Finding("padding", "warn", detail, self._padding))
        return tuple(found)


def _without_localizers(images: Sequence[Image]) -> tuple[list[Slice], int]:
    slices = [Slice(image, frame) for image in images for frame in image.frames]
    kept = [slice_ for slice_ in slices if not slice_.frame.is_localizer]
    if not kept:
        raise RefusedScan("localizer", "The series is the overview picture (localizer) that a scan is planned on.")
    return kept, len(slices) - len(kept)


def _require_elements(slices: Sequence[Slice]) -> None:
    """See that no slice lacks an element of its pixels or scale that it, or another slice, needs.

    Raises
    ------
    RefusedScan
        ``missing_element``: another value in its place would shift, stretch or wrap a slice.
    UnreadableScan
        ``bad_header`` if no slice says whether its pixels have a sign.
    """
    lacking = {keyword: [slice_ for slice_ in slices if keyword in _missing(slice_)] for keyword in NEEDED}
    if len(lacking["PixelRepresentation"]) == len(slices):
        raise UnreadableScan("bad_header", f"{slices[0].image.path.name} does not say how its pixels are stored.")
    half_scaled = len({len(lacking[keyword]) for keyword in SCALE}) > 1
    for keyword, those in lacking.items():
        if those and (len(those) < len(slices) or (half_scaled and keyword in SCALE)):
            raise RefusedScan(
                "missing_element",
                f"{len(those)} of {len(slices)} slices lack {keyword} ({named_files(those)}): "
                "their HU are not known. Export the series again.",
            )


def _missing(slice_: Slice) -> tuple[str, ...]:
    return (*slice_.image.storage.missing, *slice_.frame.missing)


def _stacked(slices: Sequence[Slice], belonging: Sequence[Finding]) -> Stack:
    """The stack; where slices cannot be stacked since they do not belong together, that is said."""
    try:
        ordered = stack(slices, _same_pixels)
        require_one_pass(ordered.slices)
    except RefusedScan as error:
        reason = next((finding for finding in belonging if finding.severity == "refuse"), None)
        if reason is not None:
            raise RefusedScan(reason.code, reason.detail) from error
        if error.code == "several_volumes":  # by name, where an attribute tells the volumes apart
            require_one_pass(slices)
        raise
    return ordered


def _series_findings(images: Sequence[Image], localizers: int) -> tuple[Finding, ...]:
    found = []
    if modality := next((image.modality for image in images if not image.is_ct), ""):
        detail = f"The series is {modality}, not CT: its numbers are no HU."
        found.append(Finding("not_ct", "refuse", detail, modality))
    if localizers:
        detail = f"Left out of the series: {plural(localizers, 'overview picture')} (localizer)."
        found.append(Finding("localizer", "warn", detail, localizers))
    if any(frame.is_derived for image in images for frame in image.frames):
        found.append(Finding("derived", "warn", "The series was computed from another one (DERIVED, SECONDARY)."))
    declared, there = max((image.declared or 0 for image in images), default=0), sum(len(i.frames) for i in images)
    if declared > there:
        detail = f"The files speak of {declared} images; {there} are there."
        found.append(Finding("incomplete_series", "warn", detail, there))
    if bare := sum(image.bare for image in images):
        detail = f"The encoding is not said by {plural(bare, 'file')}; it was recognised by content."
        found.append(Finding("no_preamble", "warn", detail, bare))
    if any(image.photometric == "MONOCHROME1" for image in images):
        detail = "The pixels are declared inverted for display (MONOCHROME1); the numbers were taken as they are."
        found.append(Finding("monochrome1", "warn", detail))
    return tuple(found)


def _bright_padding(slices: Sequence[Slice]) -> int | None:
    """The padding value, if it would look like anything but air."""
    for slice_ in slices:
        padding = slice_.image.padding
        if padding is None:
            continue
        bits = slice_.image.storage.allocated
        # Some writers give the value of an unsigned pixel with a sign, or the other way round.
        low = -(1 << (bits - 1)) if slice_.image.storage.signed else 0
        padding = (padding - low) % (1 << bits) + low
        if padding * slice_.frame.slope + slice_.frame.intercept > LIKE_AIR:
            return padding
    return None


def _same_pixels(one: Slice, other: Slice) -> bool:
    first, second = (next(planes(slice_.image, [slice_.frame.number])) for slice_ in (one, other))
    same_scale = (one.frame.slope, one.frame.intercept) == (other.frame.slope, other.frame.intercept)
    return same_scale and np.array_equal(first, second)
