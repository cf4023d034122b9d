"""Structured reports read back by highdicom's own reader and by pydicom, as a PACS would."""

import gzip
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import highdicom
import numpy as np
import pytest
from dicom_files import PATIENT_ID, PATIENT_NAME, enhanced_dataset, save, series_datasets, write_datasets
from dicom_tools import run_tool, validate
from highdicom import _standard_utils as standard
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import BytesLengthException
from pydicom.uid import Comprehensive3DSRStorage, ImplicitVRLittleEndian
from records import ANSWERED

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.report.dicom.document import is_same_report, save_structured_report
from ct3d_edge.results.record import Prediction, ResultRecord
from ct3d_edge.scan.loader import content_sha256, open_scan
from ct3d_edge.scan.qc_flag import QCFlag

MakeReport = Callable[..., tuple[ResultRecord, Path]]


@pytest.fixture
def datasets(hu: NDArray[np.int16]) -> list[Dataset]:
    """Twelve slices of one patient."""
    return series_datasets(hu)


@pytest.fixture
def make_report(datasets: list[Dataset], tmp_path: Path) -> MakeReport:
    """``make_report(model="chest", **changes_to_the_record)`` writes the series and its report."""

    def make(model: str = "chest", **changes: object) -> tuple[ResultRecord, Path]:
        scan = write_datasets(tmp_path / "secret" / "scan", datasets)
        record = replace(ANSWERED, scan=str(scan), scan_sha256=content_sha256(scan), **changes)  # type: ignore[arg-type]
        path = tmp_path / "report.dcm"
        save_structured_report(record, path, model)
        return record, path

    return make


def change(datasets: list[Dataset], **elements: object) -> None:
    for dataset in datasets:
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)


def items(document: Dataset) -> list[Dataset]:
    """All content items, depth first."""
    return [each for item in document.get("ContentSequence", ()) for each in (item, *items(item))]


def said(document: Dataset) -> list[tuple[str, object]]:
    """What a viewer shows: the meaning of each name, and its value."""
    told: list[tuple[str, object]] = []
    for item in items(document):
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        if item.ValueType == "NUM":
            told.append((name, float(item.MeasuredValueSequence[0].NumericValue)))
        elif item.ValueType == "CODE":
            told.append((name, item.ConceptCodeSequence[0].CodeMeaning))
        elif item.ValueType in ("TEXT", "UIDREF"):
            told.append((name, item.TextValue if item.ValueType == "TEXT" else item.UID))
    return told


def test_it_is_filed_beside_its_series_and_refers_to_every_slice(
    make_report: MakeReport, datasets: list[Dataset]
) -> None:
    _, path = make_report()
    report = highdicom.sr.srread(path)
    assert report.SOPClassUID == Comprehensive3DSRStorage
    assert (report.StudyInstanceUID, report.PatientID) == ("1.2.3.0", PATIENT_ID)
    assert (report.PatientName, report.Modality) == (PATIENT_NAME, "SR")
    assert report.SeriesInstanceUID != "1.2.3"
    evidence = {(str(study), str(series), str(instance)) for study, series, instance, _ in report.get_evidence()}
    assert evidence == {("1.2.3.0", "1.2.3", dataset.SOPInstanceUID) for dataset in datasets}
    assert ("Series Instance UID", "1.2.3") in said(report)


def test_it_says_probability_threshold_label_and_remarks(make_report: MakeReport) -> None:
    _, path = make_report(allowed=("oblique",))
    content = highdicom.sr.srread(path).content
    assert isinstance(content, highdicom.sr.MeasurementReport)
    (group,) = content.get_image_measurement_groups()
    found = {measurement.name.meaning: measurement.value for measurement in group.get_measurements()}
    assert found == {
        "Probability of normal": 0.25,
        "Probability of abnormal": 0.75,
        "Predicted abnormal from this probability on": 0.5,
    }
    assert group.finding_type is not None
    assert (group.finding_type.scheme_designator, group.finding_type.value) == ("SCT", "408574004")
    assert group.finding_type.meaning == "Imaging result abnormal"
    comments = [text for name, text in said(dcmread(path)) if name == "Comment"]
    assert comments[1:] == ["oblique: Tilted.", "extension_mismatch: Renamed."]
    assert ("Algorithm Parameters", "let pass in spite of: oblique") in said(dcmread(path))


def test_it_says_which_model_by_name_and_hash(make_report: MakeReport) -> None:
    record, path = make_report(model="chest")
    report = dcmread(path)
    told = said(report)
    assert ("Algorithm Name", "chest") in told
    assert ("Algorithm Version", f"sha256 {record.model_sha256}") in told
    assert ("Algorithm Parameters", f"contract sha256 {record.contract_sha256}") in told
    assert ("Device Observer Model Name", "chest") in told
    assert ("Device Observer Serial Number", record.model_sha256) in told
    assert (report.Manufacturer, report.ManufacturerModelName) == ("ct3d-edge", "chest")
    assert (report.DeviceSerialNumber, report.SoftwareVersions) == (record.model_sha256, version("ct3d-edge"))


def test_it_is_marked_as_not_for_clinical_use_wherever_a_viewer_looks(make_report: MakeReport) -> None:
    _, path = make_report()
    report = dcmread(path)
    notice = "NOT FOR CLINICAL USE"
    assert report.ConceptNameCodeSequence[0].CodeMeaning.startswith(notice)
    assert report.SeriesDescription.startswith(notice)
    assert report.CompletionFlagDescription.startswith(notice)
    comments = [text for name, text in said(report) if name == "Comment"]
    assert str(comments[0]).startswith(notice)
    flags = (report.VerificationFlag, report.CompletionFlag, report.PreliminaryFlag, report.ContentQualification)
    assert flags == ("UNVERIFIED", "PARTIAL", "PRELIMINARY", "RESEARCH")


def test_it_has_all_that_its_class_requires_and_nothing_else(make_report: MakeReport) -> None:
    _, path = make_report()
    report = dcmread(path)
    iod = standard.get_sop_class_iod_map()[Comprehensive3DSRStorage]
    modules = {module["key"] for module in standard.get_iod_module_map()[iod] if module["usage"] == "M"}
    assert {"patient", "general-study", "general-equipment", "sr-document-general"} < modules
    for module in modules - {"sr-document-content"}:  # what is required there depends on each item's type
        standard.check_required_attributes(report, module)
    assert [e.keyword for e in report if not standard.is_attribute_in_iod(e.keyword, Comprehensive3DSRStorage)] == []
    for element in report.iterall():
        assert element.VM <= 1 or element.VR == "SQ", element.keyword


def test_an_independent_validator_has_no_objection(make_report: MakeReport) -> None:
    _, path = make_report()
    assert validate(path) == ("Comprehensive3DSR", [])


def test_another_reader_shows_the_same_content(make_report: MakeReport) -> None:
    _, path = make_report()
    shown = run_tool("dsrdump", path).stdout
    assert shown.startswith("Comprehensive 3D SR Document\n")
    assert 'CODE:(,,"Finding")=(408574004,SCT,"Imaging result abnormal")' in shown
    assert 'NUM:(,,"Probability of abnormal")="0.75"' in shown


def test_the_same_answer_about_the_same_files_has_the_same_uids(make_report: MakeReport, tmp_path: Path) -> None:
    record, path = make_report()
    first = dcmread(path)
    assert is_same_report(path, record, "chest")
    save_structured_report(record, path, "chest")
    again = dcmread(path)
    assert (first.SOPInstanceUID, first.SeriesInstanceUID) == (again.SOPInstanceUID, again.SeriesInstanceUID)
    others = [
        replace(record, prediction=Prediction("abnormal", (("normal", 0.2), ("abnormal", 0.8)), 0.5)),
        replace(record, contract_sha256="d" * 64),
        replace(record, flags=()),
        replace(record, allowed=("oblique",)),
        replace(record, actual="cuda"),
    ]
    assert not any(is_same_report(path, other, "chest") for other in others)
    assert not is_same_report(path, record, "other")
    assert not is_same_report(tmp_path / "nothing.dcm", record, "chest")
    (tmp_path / "text.dcm").write_text("no DICOM")
    assert not is_same_report(tmp_path / "text.dcm", record, "chest")


def test_the_other_scans_of_a_run_change_no_uid(make_report: MakeReport) -> None:
    record, path = make_report()
    duplicate = QCFlag("duplicate", "warn", "The network input is identical to that of other.", "other")
    assert is_same_report(path, replace(record, flags=(*record.flags, duplicate)), "chest")


def test_no_folder_of_this_machine_gets_into_it(make_report: MakeReport) -> None:
    other = "/home/secret/other"
    duplicate = QCFlag("duplicate", "warn", f"The network input is identical to that of {other}.", other)
    _, path = make_report(flags=(duplicate, QCFlag("identifiers", "ok", "Patient Doe^Jane, ID PID-4711.")))
    comments = [text for name, text in said(dcmread(path)) if name == "Comment"]
    assert comments[1:] == ["duplicate: The network input is identical to that of another scan of this run."]
    assert b"secret" not in path.read_bytes()


def test_no_report_names_the_folder_of_another_patient(make_report: MakeReport) -> None:
    other = "/ward/DOE^JOHN_1950"
    duplicate = QCFlag("duplicate", "warn", f"The network input is identical to that of {other}.", other)
    _, path = make_report(flags=(duplicate,))
    assert b"DOE" not in path.read_bytes()


def test_any_letter_is_kept(make_report: MakeReport, datasets: list[Dataset]) -> None:
    change(datasets, SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう")
    label = "病気\\" + "x" * 80
    _, path = make_report(prediction=Prediction(label, (("gesund", 0.25), (label, 0.75)), 0.5))
    report = highdicom.sr.srread(path)
    assert report.SpecificCharacterSet == "ISO_IR 192"
    assert str(report.PatientName) == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert ("Finding", ("病気/" + "x" * 80)[:64]) in said(report)


def test_more_than_two_classes_have_no_threshold(make_report: MakeReport) -> None:
    _, path = make_report(prediction=Prediction("b", (("a", 0.25), ("b", 0.5), ("c", 0.25)), None))
    numbers = [name for name, value in said(dcmread(path)) if isinstance(value, float)]
    assert numbers == ["Probability of a", "Probability of b", "Probability of c"]


@pytest.mark.parametrize(
    "missing",
    ["PatientName", "PatientID", "PatientSex", "PatientBirthDate", "StudyDate", "StudyTime", "AccessionNumber"],
)
def test_a_header_that_says_little_gives_a_report_that_says_as_little(
    make_report: MakeReport, datasets: list[Dataset], missing: str
) -> None:
    change(datasets, PatientBirthDate="19700101", PatientSex="F", StudyDate="20260102", StudyTime="101112.5")
    change(datasets, AccessionNumber="A1")
    for dataset in datasets:
        delattr(dataset, missing)
    _, path = make_report()
    report = highdicom.sr.srread(path)
    assert report[missing].is_empty
    kept = {"PatientSex": "F", "PatientBirthDate": "19700101", "StudyTime": "101112.5", "AccessionNumber": "A1"}
    assert all(report[keyword].value == value for keyword, value in kept.items() if keyword != missing)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize(
    ("keyword", "value"), [("PatientSex", "W"), ("PatientBirthDate", "1.2.1970"), ("StudyTime", "soon")]
)
def test_what_is_no_dicom_value_is_left_empty(
    make_report: MakeReport,
    datasets: list[Dataset],
    keyword: str,
    value: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    change(datasets, **{keyword: value})
    capfd.readouterr()
    _, path = make_report()
    assert highdicom.sr.srread(path)[keyword].is_empty
    assert capfd.readouterr().err == ""


def test_a_damaged_element_costs_no_report(make_report: MakeReport, tmp_path: Path) -> None:
    record, _ = make_report()
    first = Path(record.scan) / "000.dcm"
    header = dcmread(first)
    header.add_new("TableSpeed", "LO", "123456")  # read as the standard's type, a number of eight bytes
    header.PatientSex = "F"
    save(header, first, ImplicitVRLittleEndian)
    with pytest.raises(BytesLengthException):
        dcmread(first)["TableSpeed"]
    save_structured_report(
        replace(record, scan_sha256=content_sha256(Path(record.scan))), tmp_path / "damaged.dcm", model="chest"
    )
    assert highdicom.sr.srread(tmp_path / "damaged.dcm").PatientSex == "F"


def test_a_name_that_highdicom_complains_about_is_not_shown(
    make_report: MakeReport, datasets: list[Dataset], capfd: pytest.CaptureFixture[str]
) -> None:
    change(datasets, PatientName="Jane Doe")
    _, path = make_report()
    assert dcmread(path).PatientName == "Jane Doe"
    assert "Jane" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SOPInstanceUID"])
def test_without_uids_there_is_no_place_for_a_report(
    make_report: MakeReport, datasets: list[Dataset], tmp_path: Path, keyword: str
) -> None:
    record, _ = make_report()
    path = Path(record.scan) / "003.dcm"
    damaged = dcmread(path)
    delattr(damaged, keyword)
    damaged.save_as(path)
    with pytest.raises(UnreadableScanError, match="no report can refer to them") as error:
        save_structured_report(record, tmp_path / "none.dcm", "chest")
    assert error.value.code == "bad_header"
    assert not (tmp_path / "none.dcm").exists()


@pytest.mark.parametrize(("keyword", "value"), [("PatientID", "another"), ("StudyInstanceUID", "9.9.9")])
def test_two_patients_or_studies_in_one_series_are_no_place_for_a_report(
    make_report: MakeReport, datasets: list[Dataset], keyword: str, value: str
) -> None:
    change(datasets[:1], **{keyword: value})
    with pytest.raises(RefusedScanError, match="several patients or studies"):
        make_report()


def test_a_series_that_was_replaced_gets_no_report(make_report: MakeReport, tmp_path: Path) -> None:
    record, _ = make_report()
    (Path(record.scan) / "003.dcm").unlink()
    with pytest.raises(UnreadableScanError, match="after it was predicted") as error:
        save_structured_report(record, tmp_path / "none.dcm", "chest")
    assert error.value.code == "modified_during_read"
    assert not (tmp_path / "none.dcm").exists()


def test_whoever_gives_up_on_a_series_gets_no_report_later(make_report: MakeReport, tmp_path: Path) -> None:
    """However far it was read: until just before the file is written."""
    record, _ = make_report()
    calls: list[int] = []

    def count() -> None:
        calls.append(len(calls))

    save_structured_report(record, tmp_path / "all.dcm", "chest", count)
    assert len(calls) > 12, "once for each file at least"

    def end(at: int) -> None:
        calls.append(at)
        if len(calls) > at:
            raise UnreadableScanError("timeout", "Too late.")

    for at in (0, 12, len(calls) - 1):
        calls.clear()
        with pytest.raises(UnreadableScanError, match="Too late"):
            save_structured_report(record, tmp_path / "none.dcm", "chest", lambda at=at: end(at))  # type: ignore[misc]
    assert not (tmp_path / "none.dcm").exists()


def test_an_enhanced_file_is_one_instance(hu: NDArray[np.int16], tmp_path: Path) -> None:
    scan = save(enhanced_dataset(hu), tmp_path / "enhanced.dcm")
    record = replace(ANSWERED, scan=str(scan), scan_sha256=content_sha256(scan))
    save_structured_report(record, tmp_path / "report.dcm", "chest")
    ((study, series, instance, _),) = highdicom.sr.srread(tmp_path / "report.dcm").get_evidence()
    assert (study, series, instance) == ("1.2.3.0", "1.2.3", "1.2.3.1")


def test_a_report_of_a_pass_refers_to_its_slices_and_names_the_pass(hu: NDArray[np.int16], tmp_path: Path) -> None:
    datasets = []
    for number in (1, 2):
        for dataset in series_datasets(hu + number):
            dataset.AcquisitionNumber, dataset.SOPInstanceUID = number, f"{dataset.SOPInstanceUID}.{number}"
            datasets.append(dataset)
    scan = write_datasets(tmp_path / "series", datasets) / "1.2.3#AcquisitionNumber-2"
    flags = open_scan(scan).flags
    record = replace(ANSWERED, scan=str(scan), scan_sha256=content_sha256(scan)).with_flags(flags)
    save_structured_report(record, tmp_path / "report.dcm", "chest")
    instances = {instance for _, _, instance, _ in highdicom.sr.srread(tmp_path / "report.dcm").get_evidence()}
    assert instances == {f"1.2.3.{number}.2" for number in range(1, 13)}
    assert any(
        "AcquisitionNumber-2 is one of 2 passes" in str(value) for _, value in said(dcmread(tmp_path / "report.dcm"))
    )


@pytest.mark.parametrize("kind", ["zip", "gz"])
def test_a_packed_series_gets_a_report(datasets: list[Dataset], tmp_path: Path, kind: str) -> None:
    folder = write_datasets(tmp_path / "chest", datasets)
    scan = folder
    if kind == "zip":
        scan = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", folder))
        shutil.rmtree(folder)
    else:
        for path in folder.iterdir():
            path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    record = replace(ANSWERED, scan=str(scan), scan_sha256=content_sha256(scan))
    save_structured_report(record, tmp_path / "report.dcm", "chest")
    report = highdicom.sr.srread(tmp_path / "report.dcm")
    assert (report.PatientID, len(report.get_evidence())) == (PATIENT_ID, len(datasets))
