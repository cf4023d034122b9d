"""A Grad-CAM map as pictures for every viewer: slices in the lung window under the map, with a burned-in notice."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian

from ct3d_edge.report.dicom.content import NON_CLINICAL_WARNING
from ct3d_edge.report.dicom.identity import (
    CAPTURE_SERIES_NUMBER,
    CHARACTER_SET,
    NON_CLINICAL_NOTICE,
    describe_equipment,
    has_uid,
    make_uid,
    require_unmodified,
)
from ct3d_edge.report.dicom.mapped_series import MappedSeries, set_body_part
from ct3d_edge.report.dicom.source_series import read_source_series
from ct3d_edge.report.slice_images import ColorImage, blend, burn_text, colorize_map, select_slices, window_hu
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.scan.dicom.consistency import SliceOf
from ct3d_edge.scan.dicom.tags import without_warnings
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.volume import Scan
from ct3d_edge.system.atomic_write import atomic_file, write_failure_message

MAX_PICTURES = 64
"""Slices drawn at most, evenly chosen; each takes 0.8 MB at 512 x 512 pixels, uncompressed for any archive."""

MIN_SIDE, MAX_SIDE = 384, 512
"""Pixels: the notice does not fit a smaller slice, and a larger one shows no more of a map."""

ORIENTATIONS = {"L": "L", "R": "R", "A": "A", "P": "P", "S": "H", "I": "F"}
"""Letters of nibabel for body axes, and DICOM's (PS3.3, C.7.6.1.1.1)."""


def picture_path(stem: Path, number: int) -> Path:
    """Where picture ``number`` lies, from 1: ``NAME_sc_001.dcm`` for the stem ``NAME``."""
    return stem.with_name(f"{stem.name}_sc_{number:03d}.dcm")


def find_pictures(stem: Path) -> tuple[Path, ...]:
    """The pictures that are there, in order of the slices."""
    paths = (picture_path(stem, number) for number in range(1, MAX_PICTURES + 1))
    return tuple(path for path in paths if path.exists())


def has_same_pictures(stem: Path, record: ResultRecord, model: str) -> bool:
    """Whether `save_pictures` has written all pictures of this prediction: the first is written last."""
    return has_uid(picture_path(stem, 1), make_uid(record, model, "capture 1"))


def save_pictures(
    mapped: MappedSeries, stem: Path, check_cancelled: Callable[[], None] = no_cancellation
) -> tuple[Path, ...]:
    """Write the pictures as a series of secondary captures; the files, in order of the slices.

    Those of an earlier prediction of this name are removed. The same prediction of the same files has the same UIDs.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        As `save_structured_report`.
    UsageError, OutputError, DiskError
        If a file cannot be written.
    """
    with without_warnings():
        header = read_source_series(Path(mapped.record.scan), check_cancelled).header
        require_unmodified(mapped.record, check_cancelled)
        _remove_pictures(stem)
        written: list[Path] = []
        for number, slice_, pixels in _draw_pictures(mapped):
            data = mapped.encode(lambda: _make_picture(mapped, header, number, slice_, pixels))  # noqa: B023
            check_cancelled()
            written.append(picture_path(stem, number))
            with atomic_file(written[-1]) as stream:
                stream.write(data)
    return tuple(reversed(written))


def _remove_pictures(stem: Path) -> None:
    for number in range(1, MAX_PICTURES + 1):
        path = picture_path(stem, number)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise write_failure_message(path, error) from error


def _draw_pictures(mapped: MappedSeries) -> Iterator[tuple[int, SliceOf, ColorImage]]:
    """Number from 1, slice and pixels of each picture, the last one first."""
    series, peak = mapped.series, mapped.overlay.peak
    chosen = [int(index) for index in select_slices(series.shape[2], MAX_PICTURES)][::-1]
    prediction = mapped.record.prediction
    caption = f"Grad-CAM: {mapped.label}"
    if prediction is not None:
        caption += f"; predicted: {prediction.label} {prediction.confidence:.2f}"
    for number, index, stored in zip(range(len(chosen), 0, -1), chosen, series.planes(chosen), strict=True):
        hu = stored.astype(np.float32) * series.slope + series.intercept
        pixels = _scale(blend(window_hu(hu), colorize_map(mapped.overlay.plane(index), peak)))
        yield number, series.slices[index], burn_text(pixels, [NON_CLINICAL_NOTICE, caption])


def _scale(pixels: ColorImage) -> ColorImage:
    """Each pixel repeated, or some left out, so that the sides are within the limits."""
    rows, columns = pixels.shape[:2]
    step, times = _scale_factors(rows, columns)
    return pixels[::step, ::step].repeat(times, 0).repeat(times, 1)


def _scale_factors(rows: int, columns: int) -> tuple[int, int]:
    """Every how many pixels one is drawn, and how often it is repeated."""
    return max(1, -(-max(rows, columns) // MAX_SIDE)), max(1, -(-MIN_SIDE // min(rows, columns)))


def _make_picture(mapped: MappedSeries, header: Dataset, number: int, slice_: SliceOf, pixels: ColorImage) -> SCImage:
    picture = SCImage.from_ref_dataset(
        header,
        pixel_array=np.ascontiguousarray(pixels),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=_directions(mapped.series),
        series_instance_uid=mapped.uid("capture series"),
        series_number=CAPTURE_SERIES_NUMBER,
        sop_instance_uid=mapped.uid(f"capture {number}"),
        instance_number=number,
        series_description=f"{NON_CLINICAL_NOTICE}: ct3d-edge Grad-CAM",
        specific_character_set=CHARACTER_SET,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **describe_equipment(mapped.record, mapped.model),
    )
    set_body_part(picture, header)
    picture.ConversionType = "WSD"  # PS3.3, C.8.6.1: made on a workstation
    picture.BurnedInAnnotation = "NO"  # the notice names no patient
    picture.ImageComments = NON_CLINICAL_WARNING
    picture.DerivationDescription = f"Grad-CAM of class {mapped.label} over the lung window"
    picture.SourceImageSequence = [_refer_to(slice_)]
    return picture


def _directions(series: Scan) -> tuple[str, str]:
    """Where rows and columns of a slice lead."""
    code = series.axis_code or ""
    return ORIENTATIONS[code[0]], ORIENTATIONS[code[1]]


def _refer_to(slice_: SliceOf) -> Dataset:
    """The slice that a picture shows."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = slice_.image.sop_class, slice_.image.instance
    if len(slice_.image.frames) > 1:
        item.ReferencedFrameNumber = slice_.frame.number + 1
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item
