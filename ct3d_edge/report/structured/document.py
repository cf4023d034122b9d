"""A structured report as a DICOM file: patient and study of its series, marked as what it is, complete or not there."""

import json
import uuid
from collections.abc import Callable
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

from highdicom import ContentQualificationValues
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import EnhancedSR, MeasurementReport
from pydicom import dcmread
from pydicom.uid import UID

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.report.deidentify import deidentify_flags, remove_other_scan_names, remove_run_flags
from ct3d_edge.report.structured.content import (
    CODING_SCHEME,
    NON_CLINICAL_NOTICE,
    ReportIdentity,
    make_measurement_report,
)
from ct3d_edge.report.structured.source_series import SourceSeries, read_source_series
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.scan.dicom.tags import without_warnings
from ct3d_edge.scan.fingerprint import content_sha256
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.system.atomic_write import atomic_file

UID_NAMESPACE = uuid.UUID("61426a19-c977-4fa6-a602-59ed417ee124")
"""Of the UIDs made here; a random number, drawn once."""

SERIES_NUMBER = 9901
"""Behind the scanner's own series where a viewer sorts by number."""


def save_structured_report(
    record: ResultRecord, path: Path, model: str, check_cancelled: Callable[[], None] = no_cancellation
) -> None:
    """Write the report of a DICOM series that has an answer, complete or not at all.

    The same answer about the same files has the same UIDs, whatever other scans its run had, so that an archive that is
    sent it twice keeps one.

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
        ``changed`` if the series is no longer what was predicted; ``bad_header``, ``mixed_patients`` if a report could
        not be filed beside it; else as reading the series.
    UsageError
        If the file cannot be written.
    """
    if record.prediction is None:
        raise ValueError(f"{record.scan} has no answer to report.")
    scan = Path(record.scan)
    with without_warnings():
        source = read_source_series(scan, check_cancelled)
        if (
            content_sha256(scan, check_cancelled) != record.scan_sha256
        ):  # the answer of one patient in the study of another
            raise UnreadableScanError(
                "modified_during_read", f"{scan.name} was modified after it was predicted. Run it again."
            )
        series = source.header.SeriesInstanceUID
        remarks = deidentify_flags(remove_other_scan_names(record))
        report = make_measurement_report(record, record.prediction, series, _make_identity(record, model), remarks)
        data = _encode_report(source, report, record, model)
    check_cancelled()
    with atomic_file(path) as stream:
        stream.write(data)


def is_same_report(path: Path, record: ResultRecord, model: str) -> bool:
    """Whether a file is the report that `save_structured_report` writes, or one of the same answer from another run."""
    try:
        found = dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
    except Exception:  # there is none, or something else by that name
        return False
    return bool(found.get("SOPInstanceUID") == _make_uid(record, model, "document"))


def _make_uid(record: ResultRecord, model: str, what: str) -> UID:
    """A UID made of all that a report says of the scan itself (PS3.5, B.2), whatever other scans its run had."""
    answer = record.to_dict()
    said = [answer[key] for key in ("scan_sha256", "model_sha256", "contract_sha256", "allowed", "probability")]
    key = json.dumps(
        [what, model, version("ct3d-edge"), record.actual, said, deidentify_flags(remove_run_flags(record))]
    )
    return UID(f"2.25.{uuid.uuid5(UID_NAMESPACE, key).int}")


def _make_identity(record: ResultRecord, model: str) -> ReportIdentity:
    device = UID(f"2.25.{uuid.uuid5(UID_NAMESPACE, record.model_sha256 + record.contract_sha256).int}")
    return ReportIdentity(_make_uid(record, model, "group"), device, model, version("ct3d-edge"))


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


def _make_document(source: SourceSeries, report: MeasurementReport, record: ResultRecord, model: str) -> EnhancedSR:
    document = EnhancedSR(
        evidence=source.evidence,
        content=report[0],
        series_instance_uid=_make_uid(record, model, "series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=_make_uid(record, model, "document"),
        instance_number=1,
        manufacturer="ct3d-edge",
        is_complete=False,
        is_final=False,
        is_verified=False,
        series_description=f"{NON_CLINICAL_NOTICE}: ct3d-edge",
        manufacturer_model_name=model[:64],
        software_versions=version("ct3d-edge"),
        device_serial_number=record.model_sha256,
        content_qualification=ContentQualificationValues.RESEARCH,
        coding_schemes=[CodingSchemeIdentificationItem(CODING_SCHEME, name="ct3d-edge")],
        # Labels and sentences may hold any letter; what was read of patient and study is written anew.
        specific_character_set="ISO_IR 192",
    )
    document.CompletionFlagDescription = f"{NON_CLINICAL_NOTICE}: no physician has read this"
    return document


def _to_bytes(document: EnhancedSR) -> bytes:
    stream = BytesIO()
    document.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
