"""``infer --dicom-sr``: structured reports beside the series they speak of."""

import json
import os
import stat
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray
from records import ANSWERED

from ct3d_edge.cli.dicom_outputs import StructuredReportOutput
from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.extras import pip_install_command
from ct3d_edge.inference.predict import ScanResult
from ct3d_edge.scan.discovery import scan_name
from ct3d_edge.scan.loader import content_sha256

from .conftest import Run

made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
highdicom = pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")


@pytest.fixture
def ward(tmp_path: Path, make_scan: MakeScan, hu: NDArray[np.int16]) -> Path:
    """Two series of one name, one of a single slice, a NIfTI file."""
    folder = tmp_path / "ward"
    made.write_series(folder / "monday" / "chest", hu, "1.2.3")
    made.write_series(folder / "tuesday" / "chest", (hu + 5).astype(np.int16), "1.2.4")
    made.write_series(folder / "flat", hu[:, :, :1], "1.2.5")
    make_scan("other.nii", voxels=(hu + 9).astype(np.int16), folder=folder)
    return folder


def test_each_series_with_an_answer_gets_one_and_the_others_are_told(
    run: Run, ward: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    out, reports = tmp_path / "r.jsonl", tmp_path / "new" / "sr"
    command = ("infer", ward, "-m", make_model("chest.onnx"), "--out", out, "--include-phi")
    outcome = run(*command, "--dicom-sr", reports)
    assert outcome.code == 1
    assert sorted(path.name for path in reports.iterdir()) == ["chest-2_sr.dcm", "chest_sr.dcm"]
    assert "--dicom-sr: 1 of 4 scans are no DICOM series and get no structured report" in outcome.err
    assert "--dicom-sr: 1 series without a prediction get no structured report" in outcome.err
    assert f"wrote {reports}" in outcome.err
    records = {record["scan"]: record for record in map(json.loads, out.read_text().splitlines())}
    for name, day, series in (("chest", "monday", "1.2.3"), ("chest-2", "tuesday", "1.2.4")):
        report = highdicom.sr.srread(reports / f"{name}_sr.dcm")
        assert report.StudyInstanceUID == f"{series}.0"
        assert report.PatientID == made.PATIENT_ID
        assert {str(each[1]) for each in report.get_evidence()} == {series}
        (group,) = report.content.get_image_measurement_groups()
        record = records[str(ward / day / "chest")]
        found = {measurement.name.meaning: measurement.value for measurement in group.get_measurements()}
        assert found["Probability of abnormal"] == record["probability"]["abnormal"]
        assert found["Predicted abnormal from this probability on"] == record["threshold"]
        assert group.finding_type.meaning == f"Imaging result {record['label']}"
        assert report.ManufacturerModelName == "chest"
        assert report.DeviceSerialNumber == record["model_sha256"]
    mask = stat.S_IMODE((reports / "chest_sr.dcm").stat().st_mode)
    assert mask == stat.S_IMODE(out.stat().st_mode)


def test_nifti_scans_alone_are_told_and_all_is_well(
    run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path
) -> None:
    outcome = run("infer", make_scan(), "-m", make_model(), "--dicom-sr", tmp_path / "sr", "--include-phi")
    assert outcome.code == 0
    assert "1 of 1 scans are no DICOM series" in outcome.err
    assert list((tmp_path / "sr").iterdir()) == []


def test_a_report_names_the_patient_so_the_user_must_agree(
    run: Run, ward: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    outcome = run("infer", ward, "-m", make_model(), "--dicom-sr", tmp_path / "sr")
    assert outcome.code == 2
    assert "no output holds without --include-phi; give both options" in outcome.err
    assert not (tmp_path / "sr").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_any_scan_is_read(
    run: Run, ward: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    no_files = [Path("/proc")] if Path("/proc").is_dir() else []
    for place in (tmp_path / "file", tmp_path / "file" / "sr", *no_files):
        outcome = run("infer", ward, "-m", make_model(), "--dicom-sr", place, "--include-phi")
        assert outcome.code == 2
        assert outcome.err.startswith(("error: Cannot make the folder", "error: Cannot write"))
        assert outcome.out == ""


def test_without_highdicom_the_command_that_installs_it_is_named(
    run: Run, ward: Path, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.extras.find_spec", lambda name: None if name == "highdicom" else find_spec(name))
    outcome = run("infer", ward, "-m", make_model(), "--dicom-sr", tmp_path / "sr", "--include-phi")
    assert outcome.code == 3
    assert f"needs highdicom, not installed here: {pip_install_command('dicom')}" in outcome.err


def test_a_run_that_goes_on_writes_only_the_reports_that_are_missing(
    run: Run, ward: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    reports, out = tmp_path / "sr", tmp_path / "r.jsonl"
    command = ("infer", ward, "-m", make_model(), "--out", out, "--resume", "--include-phi")
    assert run(*command).code == 1
    before = out.read_text()
    assert run(*command, "--dicom-sr", reports).code == 1
    first, second = reports / "chest_sr.dcm", reports / "chest-2_sr.dcm"
    kept, uid = first.stat().st_ino, highdicom.sr.srread(second).SOPInstanceUID
    second.unlink()
    assert run(*command, "--dicom-sr", reports).code == 1
    assert first.stat().st_ino == kept
    assert highdicom.sr.srread(second).SOPInstanceUID == uid
    assert out.read_text() == before
    second.write_bytes(first.read_bytes())
    assert run(*command, "--dicom-sr", reports).code == 1
    assert highdicom.sr.srread(second).SOPInstanceUID == uid, "a report of something else is replaced"


def test_a_series_that_cannot_be_read_again_in_time_gets_no_report(hu: NDArray[np.int16], tmp_path: Path) -> None:
    scan = made.write_series(tmp_path / "chest", hu, "1.2.3")
    record = replace(ANSWERED, scan=str(scan), scan_sha256=content_sha256(scan))
    reports = tmp_path / "sr"
    late = StructuredReportOutput(reports, scan_name, "model", include_phi=True, seconds=1e-9)
    with pytest.raises(UnreadableScanError, match="was not finished within") as error:
        late.add(ScanResult(record, None), None)
    assert error.value.code == "timeout"
    assert list(reports.iterdir()) == []
    StructuredReportOutput(reports, scan_name, "model", include_phi=True, seconds=60).add(
        ScanResult(record, None), None
    )
    assert [path.name for path in reports.iterdir()] == ["chest_sr.dcm"]


def test_reports_among_the_scans_are_no_scans(run: Run, ward: Path, make_model: MakeModel, tmp_path: Path) -> None:
    command = ("infer", ward, "-m", make_model(), "--dicom-sr", ward / "monday" / "chest", "--include-phi")
    first, again = run(*command, "-f", "jsonl"), run(*command, "-f", "jsonl")
    hashes = [[json.loads(line)["scan_sha256"] for line in outcome.out.splitlines()] for outcome in (first, again)]
    assert hashes[0] == hashes[1]
    assert len(hashes[0]) == 4


def test_names_of_series_cannot_leave_the_folder_or_outgrow_it(
    run: Run, hu: NDArray[np.int16], make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = made.write_series(tmp_path / "scans" / ("肺" * 80), hu, "1.2.3")
    here = made.write_series(tmp_path / "scans" / "here", (hu + 5).astype(np.int16), "1.2.4")
    monkeypatch.chdir(here)
    reports = tmp_path / "sr"
    outcome = run("infer", long, ".", "-m", make_model(), "--dicom-sr", reports, "--include-phi")
    assert outcome.code == 0
    names = sorted(path.name for path in reports.iterdir())
    assert names == ["here_sr.dcm", "肺" * 66 + "_sr.dcm"]
    assert all(len(os.fsencode(name)) < 255 for name in names)


def test_a_real_series(run: Run, real_scans: Path, tmp_path: Path) -> None:
    series = real_scans.parent / "dicom" / "covid_ricord1a-001012"
    if not series.is_dir():
        pytest.skip(f"needs a real DICOM series in {series}")
    outcome = run("infer", series, "-p", "cpu", "--dicom-sr", tmp_path / "sr", "--include-phi")
    assert outcome.code == 0
    report = highdicom.sr.srread(tmp_path / "sr" / f"{series.name}_sr.dcm")
    assert len(report.get_evidence()) == 62
    (group,) = report.content.get_image_measurement_groups()
    numbers = [measurement.value for measurement in group.get_measurements()]
    assert sum(numbers[:2]) == pytest.approx(1)
    text = (tmp_path / "sr" / f"{series.name}_sr.dcm").read_bytes()
    assert b"its prediction for a patient means nothing" in text


def test_a_series_named_by_its_uid_or_by_one_of_its_files(
    run: Run, hu: NDArray[np.int16], make_model: MakeModel, tmp_path: Path
) -> None:
    both, alone = tmp_path / "both", tmp_path / "alone"
    made.write_series(both, hu, "1.2.3", "a{}.dcm")
    made.write_series(both, (hu + 5).astype(np.int16), "1.2.4", "b{}.dcm")
    made.write_series(alone, (hu + 9).astype(np.int16), "1.2.6")
    reports = tmp_path / "sr"
    command = ("infer", both, alone / "003.dcm", "-m", make_model(), "--dicom-sr", reports, "--include-phi")
    assert run(*command).code == 0
    found = {path.name: highdicom.sr.srread(path).StudyInstanceUID for path in reports.iterdir()}
    assert found == {"1.2.3_sr.dcm": "1.2.3.0", "1.2.4_sr.dcm": "1.2.4.0", "alone_sr.dcm": "1.2.6.0"}
