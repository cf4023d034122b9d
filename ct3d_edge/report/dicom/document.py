"""A structured report as a DICOM file: patient and study of its series, marked as what it is, complete or not there."""

from collections.abc import Callable
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

from highdicom import ContentQualificationValues
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import Comprehensive3DSR, MeasurementReport

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.report.deidentify import deidentify_flags, remove_other_scan_names
from ct3d_edge.report.dicom.content import CODING_SCHEME, ReportIdentity, make_measurement_report
from ct3d_edge.report.dicom.identity import (
    CHARACTER_SET,
    NON_CLINICAL_NOTICE,
    REPORT_SERIES_NUMBER,
    describe_equipment,
    has_uid,
    make_device_uid,
    make_uid,
    require_unmodified,
)
from ct3d_edge.report.dicom.source_series import SourceSeries, read_source_series
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.scan.dicom.tags import without_warnings
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.system.atomic_write import atomic_file


def save_structured_report(
    record: ResultRecord, path: Path, model: str, check_cancelled: Callable[[], None] = no_cancellation
) -> None:
    """Write the report of a DICOM series that has a prediction, complete or not at all.

    The same prediction of the same files has the same UIDs, whatever other scans its run had: an archive that receives
    it twice keeps one.

    Parameters
    ----------
    record
        Its record; ``scan`` is a DICOM series.
    model
        Name of the model.
    check_cancelled
        Called now and then while the series is read, and before the file is written; what it raises ends that.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        ``modified_during_read`` if the series is no longer what was predicted; ``bad_header``, ``mixed_patients`` if a
        report could not be filed beside it; else as reading the series.
    UsageError
        If the file cannot be written.
    """
    if record.prediction is None:
        raise ValueError(f"{record.scan} has no prediction to report.")
    with without_warnings():
        source = read_source_series(Path(record.scan), check_cancelled)
        require_unmodified(record, check_cancelled)
        series = source.header.SeriesInstanceUID
        remarks = deidentify_flags(remove_other_scan_names(record))
        report = make_measurement_report(record, record.prediction, series, _make_identity(record, model), remarks)
        data = _encode_report(source, report, record, model)
    check_cancelled()
    with atomic_file(path) as stream:
        stream.write(data)


def is_same_report(path: Path, record: ResultRecord, model: str) -> bool:
    """Whether a file is the report of this prediction, written by `save_structured_report` in this or another run."""
    return has_uid(path, make_uid(record, model, "document"))


def _make_identity(record: ResultRecord, model: str) -> ReportIdentity:
    group, device = make_uid(record, model, "group"), make_device_uid(record)
    return ReportIdentity(group, device, model, version("ct3d-edge"))


def _encode_report(source: SourceSeries, report: MeasurementReport, record: ResultRecord, model: str) -> bytes:
    """The file's bytes.

    Raises
    ------
    UnreadableScanError
        ``bad_header`` if patient or study hold what cannot be written again.
    """
    try:
        return _to_bytes(_make_document(source, report, record, model))
    except Exception as error:  # highdicom and pydicom raise whatever the header leads them to
        what = f"Patient or study of {Path(record.scan).name} hold what no report can repeat ({type(error).__name__})."
        raise UnreadableScanError("bad_header", what) from error


def _make_document(
    source: SourceSeries, report: MeasurementReport, record: ResultRecord, model: str
) -> Comprehensive3DSR:
    document = Comprehensive3DSR(
        evidence=source.evidence,
        content=report[0],
        series_instance_uid=make_uid(record, model, "series"),
        series_number=REPORT_SERIES_NUMBER,
        sop_instance_uid=make_uid(record, model, "document"),
        instance_number=1,
        is_complete=False,
        is_final=False,
        is_verified=False,
        series_description=f"{NON_CLINICAL_NOTICE}: ct3d-edge",
        content_qualification=ContentQualificationValues.RESEARCH,
        coding_schemes=[CodingSchemeIdentificationItem(CODING_SCHEME, name="ct3d-edge")],
        specific_character_set=CHARACTER_SET,
        **describe_equipment(record, model),
    )
    document.CompletionFlagDescription = f"{NON_CLINICAL_NOTICE}: no physician has read this"
    return document


def _to_bytes(document: Comprehensive3DSR) -> bytes:
    stream = BytesIO()
    document.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
