"""The content of a structured report: template TID 1500 (PS3.16) with one group of measurements, the prediction."""

from collections.abc import Sequence
from dataclasses import dataclass

from highdicom import sr
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from ct3d_edge.report.dicom.identity import NON_CLINICAL_NOTICE
from ct3d_edge.results.record import Prediction, ResultRecord

CODING_SCHEME = "99CT3D"
"""Designator of the codes that no standard has; those that begin with 99 are private (PS3.16, chapter 8)."""

NON_CLINICAL_WARNING = (
    f"{NON_CLINICAL_NOTICE}. Computed by a program that is no medical device, and read by no physician. "
    "It must not be used for "
    "diagnosis or treatment."
)

STANDARD_CLASSES = {"normal": codes.SCT.ImagingResultNormal, "abnormal": codes.SCT.ImagingResultAbnormal}
"""Codes of SNOMED CT for labels; other labels get private ones."""

MAX_CODE_MEANING_LENGTH = 64


@dataclass(frozen=True)
class ReportIdentity:
    """What a report is called, and who made it.

    Parameters
    ----------
    report, device
        UIDs of the group of measurements, and of the model that made them.
    model
        Its name.
    version
        Of ct3d-edge.
    """

    report: str
    device: str
    model: str
    version: str


def make_measurement_report(
    record: ResultRecord, prediction: Prediction, series: str, who: ReportIdentity, remarks: Sequence[str]
) -> sr.MeasurementReport:
    """The content of a report.

    Parameters
    ----------
    record, prediction
        The model's prediction and its provenance.
    series
        UID of the series that was predicted.
    remarks
        What was noticed about the scan, in sentences.
    """
    report = sr.MeasurementReport(
        observation_context=_observer_context(record, who),
        procedure_reported=codes.cid100.CTUnspecifiedBodyRegion,
        imaging_measurements=[_measurement_group(record, prediction, series, who, remarks)],
        title=private_code("research-prediction", f"{NON_CLINICAL_NOTICE}: prediction of a model"),
    )
    # Before the measurements: what a viewer shows first.
    root = report[0].ContentSequence
    root.insert(len(root) - 1, _comment_item(NON_CLINICAL_WARNING))
    return report


def _observer_context(record: ResultRecord, who: ReportIdentity) -> sr.ObservationContext:
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=who.device,
        name="ct3d-edge",
        manufacturer_name="ct3d-edge",
        model_name=who.model,
        serial_number=record.model_sha256,
    )
    return sr.ObservationContext(sr.ObserverContext(codes.DCM.Device, device))


def _measurement_group(
    record: ResultRecord, prediction: Prediction, series: str, who: ReportIdentity, remarks: Sequence[str]
) -> sr.MeasurementsAndQualitativeEvaluations:
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=who.report, identifier="ct3d-edge prediction"),
        algorithm_id=_algorithm_identification(record, who),
        measurements=_measurements(prediction),
        finding_type=_class_code(prediction.label),
    )
    content = group[0].ContentSequence
    content.append(
        sr.UIDRefContentItem(codes.DCM.SeriesInstanceUID, series, relationship_type=sr.RelationshipTypeValues.CONTAINS)
    )
    content.extend(map(_comment_item, remarks))
    return group


def _algorithm_identification(record: ResultRecord, who: ReportIdentity) -> sr.AlgorithmIdentification:
    """The model by name and hash; its file has no other version than what it holds."""
    parameters = [f"contract sha256 {record.contract_sha256}", f"run by ct3d-edge {who.version} on {record.actual}"]
    if record.allowed:
        parameters.append(f"let pass in spite of: {', '.join(record.allowed)}")
    return sr.AlgorithmIdentification(who.model, f"sha256 {record.model_sha256}", parameters)


def _measurements(prediction: Prediction) -> list[sr.Measurement]:
    """The probability of each class, and the threshold where the contract has one."""
    found = [
        sr.Measurement(private_code(f"p:{label}", f"Probability of {label}"), probability, codes.UCUM.NoUnits)
        for label, probability in prediction.probability
    ]
    if prediction.threshold is not None:
        second = prediction.probability[1][0]
        name = private_code(f"t:{second}", f"Predicted {second} from this probability on")
        found.append(sr.Measurement(name, prediction.threshold, codes.UCUM.NoUnits))
    return found


def _class_code(label: str) -> Code | CodedConcept:
    return STANDARD_CLASSES.get(label) or private_code(f"class:{label}", label)


def private_code(code: str, meaning: str) -> CodedConcept:
    """A private code. A backslash in a label would divide the value in two (PS3.5, 6.2)."""
    return CodedConcept(code.replace("\\", "/"), CODING_SCHEME, meaning.replace("\\", "/")[:MAX_CODE_MEANING_LENGTH])


def _comment_item(text: str) -> sr.TextContentItem:
    return sr.TextContentItem(codes.DCM.Comment, text, relationship_type=sr.RelationshipTypeValues.CONTAINS)
