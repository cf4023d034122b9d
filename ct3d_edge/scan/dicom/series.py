"""A DICOM series as a scan whose planes are decoded one by one."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.formatting import plural
from ct3d_edge.scan.dicom.consistency import SliceOf, list_file_names, require_identical_duplicates
from ct3d_edge.scan.dicom.instance import DicomInstance
from ct3d_edge.scan.dicom.pixel_decoder import decode_planes, require_decodable, stored_dtype
from ct3d_edge.scan.dicom.pixel_padding import AIR_HU, find_padding, padding_flags
from ct3d_edge.scan.dicom.series_membership import membership_flags
from ct3d_edge.scan.dicom.slice_sorting import SortedSlices, sort_slices
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import Scan

RESCALE_TAGS = ("RescaleSlope", "RescaleIntercept")
"""What makes HU of stored numbers: both are there, or neither."""

REQUIRED_TAGS = ("PixelRepresentation", "BitsStored", "HighBit", *RESCALE_TAGS)
"""Elements that all slices of a series have, or none has."""


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
    check_cancelled
        Called after each plane that was read; what it raises ends the reading.

    Raises
    ------
    RefusedScanError
        ``localizer``, ``unsupported_dtype``; ``no_geometry``, ``inconsistent_slices``, ``single_slice``,
        ``multiple_volumes``, ``conflicting_instances``: see `sort_slices`; ``mixed_patients``, ``mixed_series``
        where that is why they cannot be sorted; ``missing_element``.
    UnreadableScanError
        ``truncated``, ``too_large``, ``missing_decoder``, ``pixel_decode_error``, ``bad_header``.
    """

    def __init__(
        self,
        path: Path,
        images: Sequence[DicomInstance],
        remarks: Sequence[QCFlag] = (),
        check_cancelled: Callable[[], None] = no_cancellation,
    ) -> None:
        start = time.perf_counter()
        self.path, self._on_block = path, check_cancelled
        slices, localizers = _without_localizers(images)
        for image in images:
            require_decodable(image)
        _require_elements(slices)
        belonging = membership_flags(images)
        self._stack = ordered = _sort_or_explain(slices, belonging)
        self._first = ordered.slices[0].image
        self.affine = ordered.affine
        scalings = Counter((slice_.frame.slope, slice_.frame.intercept) for slice_ in ordered.slices)
        padding = padding_flags(ordered.slices)
        self._in_hu = len(scalings) > 1 or bool(padding)
        self.slope, self.intercept = (1.0, 0.0) if self._in_hu else next(iter(scalings))
        found = (*remarks, *belonging, *_series_flags(images, localizers))
        self.flags = (*found, *ordered.flags, *self._unit_flags(), *padding)
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

    @property
    def slices(self) -> tuple[SliceOf, ...]:
        """The frame of each plane, in order of ``k``."""
        return tuple(self._stack.slices)

    def planes(self, needed: Iterable[int]) -> Iterator[NDArray[Any]]:
        """Decode planes of constant ``k``, each ``(j, i)``; files of other planes are not opened.

        Raises
        ------
        UnreadableScanError
            ``pixel_decode_error``, ``truncated``, ``unreadable``, ``not_found``.
        """
        wanted = (self._stack.slices[index] for index in needed)
        for _, run in itertools.groupby(wanted, key=lambda slice_: slice_.image.path):
            slices = list(run)  # of one file: an enhanced one is opened once
            decoded = decode_planes(slices[0].image, [slice_.frame.number for slice_ in slices])
            for slice_ in slices:
                start = time.perf_counter()
                plane = self._to_output(next(decoded), slice_)
                self.reading_ms += (time.perf_counter() - start) * 1e3
                self._on_block()
                yield plane

    def _to_output(self, plane: NDArray[Any], slice_: SliceOf) -> NDArray[Any]:
        """A decoded plane in the form that `dtype`, slope and intercept promise."""
        if not self._in_hu:
            return plane.astype(self.dtype, copy=False)
        hu = plane.astype(np.float32)
        hu *= slice_.frame.slope
        hu += slice_.frame.intercept
        padding = find_padding(slice_)
        if padding is not None and padding.believable:
            hu[padding.mask(plane)] = AIR_HU
        return hu

    def _unit_flags(self) -> tuple[QCFlag, ...]:
        """Flags about units."""
        units = {slice_.frame.units for slice_ in self._stack.slices}
        found = []
        if None in units:
            found.append(
                QCFlag("missing_rescale", "warn", "No rescale slope is given; stored numbers were taken as HU.")
            )
        if others := units - {None, "", "HU"}:
            named = ", ".join(sorted(map(str, others)))
            found.append(QCFlag("missing_rescale", "warn", f"The file calls its units {named}, not HU.", named))
        return tuple(found)


def _without_localizers(images: Sequence[DicomInstance]) -> tuple[list[SliceOf], int]:
    slices = [SliceOf(image, frame) for image in images for frame in image.frames]
    kept = [slice_ for slice_ in slices if not slice_.frame.is_localizer]
    if not kept:
        raise RefusedScanError("localizer", "The series is the overview picture (localizer) that a scan is planned on.")
    return kept, len(slices) - len(kept)


def _require_elements(slices: Sequence[SliceOf]) -> None:
    """See that no slice lacks an element of its pixels or scale that it, or another slice, needs.

    Raises
    ------
    RefusedScanError
        ``missing_element``: another value in its place would shift, stretch or wrap a slice.
    UnreadableScanError
        ``bad_header`` if no slice says whether its pixels have a sign.
    """
    lacking = {keyword: [slice_ for slice_ in slices if keyword in _missing_tags(slice_)] for keyword in REQUIRED_TAGS}
    if len(lacking["PixelRepresentation"]) == len(slices):
        raise UnreadableScanError("bad_header", f"{slices[0].image.path.name} does not say how its pixels are stored.")
    half_scaled = len({len(lacking[keyword]) for keyword in RESCALE_TAGS}) > 1
    for keyword, those in lacking.items():
        if those and (len(those) < len(slices) or (half_scaled and keyword in RESCALE_TAGS)):
            raise RefusedScanError(
                "missing_element",
                f"{len(those)} of {len(slices)} slices lack {keyword} ({list_file_names(those)}): "
                "their HU are not known. Export the series again.",
            )


def _missing_tags(slice_: SliceOf) -> tuple[str, ...]:
    return (*slice_.image.storage.missing, *slice_.frame.missing)


def _sort_or_explain(slices: Sequence[SliceOf], membership: Sequence[QCFlag]) -> SortedSlices:
    """The sorted slices; where they cannot be sorted since they do not belong together, that is the error."""
    try:
        return sort_slices(slices, _same_pixels)
    except RefusedScanError as error:
        reason = next((flag for flag in membership if flag.severity == "refuse"), None)
        if reason is not None:
            raise RefusedScanError(reason.code, reason.detail) from error
        raise


def _series_flags(images: Sequence[DicomInstance], localizers: int) -> tuple[QCFlag, ...]:
    found = []
    if modality := next((image.modality for image in images if not image.is_ct), ""):
        detail = f"The series is {modality}, not CT: its numbers are no HU."
        found.append(QCFlag("not_ct", "refuse", detail, modality))
    if localizers:
        detail = f"Left out of the series: {plural(localizers, 'overview picture')} (localizer)."
        found.append(QCFlag("localizer", "warn", detail, localizers))
    if any(frame.is_derived for image in images for frame in image.frames):
        found.append(QCFlag("derived", "warn", "The series was computed from another one (DERIVED, SECONDARY)."))
    elif projection := next((frame.projection for image in images for frame in image.frames if frame.projection), ""):
        detail = f"Slices are projected from several ones each ({projection}): vessels and nodules look thicker."
        found.append(QCFlag("derived", "warn", detail, projection))
    declared, there = (
        max((image.images_in_acquisition or 0 for image in images), default=0),
        sum(len(i.frames) for i in images),
    )
    if declared > there:
        detail = f"The files speak of {declared} images; {there} are there."
        found.append(QCFlag("incomplete_series", "warn", detail, there))
    if bare := sum(image.without_preamble for image in images):
        detail = f"{plural(bare, 'file')} did not state the encoding; it was recognised by content."
        found.append(QCFlag("no_preamble", "warn", detail, bare))
    if any(image.photometric == "MONOCHROME1" for image in images):
        detail = "The pixels are declared inverted for display (MONOCHROME1); the numbers were taken as they are."
        found.append(QCFlag("monochrome1", "warn", detail))
    return tuple(found)


def have_identical_copies(images: Sequence[DicomInstance]) -> bool:
    """Whether CT files of one SOPInstanceUID show the same in the same place; also where they cannot be decoded."""
    slices = [SliceOf(image, frame) for image in images if image.is_ct for frame in image.frames]
    try:
        require_identical_duplicates([each for each in slices if not each.frame.is_localizer], _same_pixels)
    except RefusedScanError as error:
        return error.code != "conflicting_instances"
    except UnreadableScanError:  # reported where it is opened
        return True
    return True


def _same_pixels(one: SliceOf, other: SliceOf) -> bool:
    first, second = (next(decode_planes(slice_.image, [slice_.frame.number])) for slice_ in (one, other))
    same_scale = (one.frame.slope, one.frame.intercept) == (other.frame.slope, other.frame.intercept)
    return same_scale and np.array_equal(first, second)
