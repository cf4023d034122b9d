"""A Grad-CAM map as a DICOM parametric map: values at places of the patient, for programs that compute with them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from highdicom import (
    PixelMeasuresSequence,
    PlaneOrientationSequence,
    PlanePositionSequence,
    VOILUTFunctionValues,
    VOILUTTransformation,
)
from highdicom.pm import ParametricMap, RealWorldValueMapping
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.report.dicom.content import private_code
from ct3d_edge.report.dicom.identity import (
    CHARACTER_SET,
    MAP_SERIES_NUMBER,
    NON_CLINICAL_NOTICE,
    describe_equipment,
    has_uid,
    make_uid,
    require_unmodified,
)
from ct3d_edge.report.dicom.mapped_series import MappedSeries, set_body_part
from ct3d_edge.report.dicom.source_series import read_header, read_source_series
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.scan.dicom.consistency import SliceOf
from ct3d_edge.scan.dicom.instance import DicomInstance
from ct3d_edge.scan.dicom.tags import without_warnings
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.system.atomic_write import atomic_file

MAX_SIDE = 128
"""Values along an axis of a slice; the cells of a network are far larger."""


def has_same_map(path: Path, record: ResultRecord, model: str) -> bool:
    """Whether a file is the map that `save_parametric_map` writes of this prediction."""
    return has_uid(path, make_uid(record, model, "map"))


def save_parametric_map(
    mapped: MappedSeries, path: Path, check_cancelled: Callable[[], None] = no_cancellation
) -> None:
    """Write the map as float32, complete or not at all: one frame for each slice, means of blocks of its pixels.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        As `save_structured_report`.
    UsageError, OutputError, DiskError
        If the file cannot be written.
    """
    with without_warnings():
        scan = Path(mapped.record.scan)
        if not read_source_series(scan, check_cancelled).header.get("FrameOfReferenceUID"):
            raise UnreadableScanError(
                "bad_header", f"{scan.name} gives no FrameOfReferenceUID; a parametric map has no place without one."
            )
        require_unmodified(mapped.record, check_cancelled)
        data = mapped.encode(lambda: _make_map(mapped))
    check_cancelled()
    with atomic_file(path) as stream:
        stream.write(data)


def _make_map(mapped: MappedSeries) -> ParametricMap:
    slices, block = mapped.series.slices, -(-max(mapped.series.shape[:2]) // MAX_SIDE)
    distance = _distances(mapped)[2]
    sources = [_read_source(image, distance) for image in dict.fromkeys(each.image for each in slices)]
    values = np.stack([_block_means(plane, block) for plane in mapped.overlay.planes()])
    peak = float(values.max())
    orientation = slices[0].frame.orientation or ()
    parametric_map = ParametricMap(
        source_images=sources,
        pixel_array=values,
        series_instance_uid=mapped.uid("map series"),
        series_number=MAP_SERIES_NUMBER,
        sop_instance_uid=mapped.uid("map"),
        instance_number=1,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_make_value_mapping(mapped.label, peak)],
        voi_lut_transformations=[_show_values_up_to(peak)],
        pixel_measures=_make_measures(mapped, block),
        plane_orientation=PlaneOrientationSequence("PATIENT", orientation),
        plane_positions=[_make_position(slice_, block) for slice_ in slices],
        content_label="GRADCAM",
        content_description=f"{NON_CLINICAL_NOTICE}: Grad-CAM"[:64],
        series_description=f"{NON_CLINICAL_NOTICE}: ct3d-edge Grad-CAM values",
        specific_character_set=CHARACTER_SET,
        **describe_equipment(mapped.record, mapped.model),
    )
    set_body_part(parametric_map, sources[0])
    return parametric_map


def _block_means(plane: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Means of blocks of ``block x block`` pixels; what is left over at the far edges is dropped."""
    rows, columns = (size // block for size in plane.shape)
    blocks = plane[: rows * block, : columns * block].reshape(rows, block, columns, block)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def _make_value_mapping(label: str, peak: float) -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label="Grad-CAM",
        lut_explanation=f"Grad-CAM of class {label}"[:64],
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, peak),
        slope=1.0,
        intercept=0.0,
        quantity_definition=private_code(f"gradcam:{label}", f"Grad-CAM of {label}"),
    )


def _show_values_up_to(peak: float) -> VOILUTTransformation:
    exact = VOILUTFunctionValues.LINEAR_EXACT  # the others take widths of at least 1
    return VOILUTTransformation(window_center=peak / 2, window_width=peak or 1.0, voi_lut_function=exact)


def _distances(mapped: MappedSeries) -> tuple[float, float, float]:
    """Of columns, rows and slices in mm; a series that was opened has them."""
    return mapped.series.spacing or (1.0, 1.0, 1.0)


def _read_source(image: DicomInstance, distance: float) -> Dataset:
    """A header as highdicom needs it."""
    header = read_header(image)
    if not header.get("SliceThickness"):  # type 2: may be empty
        header.SliceThickness = distance
    return header


def _make_measures(mapped: MappedSeries, block: int) -> PixelMeasuresSequence:
    columns, rows, distance = _distances(mapped)
    return PixelMeasuresSequence(
        pixel_spacing=(rows * block, columns * block), slice_thickness=distance, spacing_between_slices=distance
    )


def _make_position(slice_: SliceOf, block: int) -> PlanePositionSequence:
    """The centre of the first block of a slice."""
    frame = slice_.frame
    along_row, along_column = np.reshape(frame.orientation or (), (2, 3))
    between_rows, between_columns = frame.spacing or (1.0, 1.0)
    shift = (block - 1) / 2 * (along_row * between_columns + along_column * between_rows)
    return PlanePositionSequence("PATIENT", tuple(np.add(frame.position or (), shift)))
