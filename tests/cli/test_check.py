import json
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from .conftest import Run


@pytest.fixture
def chest(hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """(96, 80, 12) int16 HU: the tiny chest with lungs wide enough to be seen."""
    return hu.repeat(4, axis=0).repeat(4, axis=1)


def test_a_quality_report_names_every_measured_value(run: Run, make_scan: MakeScan, chest: NDArray[np.int16]) -> None:
    outcome = run("check", make_scan(voxels=chest))
    assert outcome.code == 0
    for said in ("orientation", "LAS", "2 x 2 x 8 mm", "96 mm along the body", "looks like lung"):
        assert said in outcome.out
    assert "1 scan (1 ok)" in outcome.err
    assert "with a model's training scans only with --model FILE" in outcome.err


def test_what_is_refused_makes_exit_code_1(
    run: Run, make_scan: MakeScan, chest: NDArray[np.int16], tmp_path: Path
) -> None:
    make_scan("a.nii.gz", voxels=chest, folder=tmp_path / "in")
    make_scan("b.nii.gz", voxels=chest + 1024, folder=tmp_path / "in")
    (tmp_path / "in" / "c.nii").touch()
    outcome = run("check", tmp_path / "in", "--json")
    assert outcome.code == 1
    quality_reports = json.loads(outcome.out)
    assert [quality_report["status"] for quality_report in quality_reports] == ["ok", "refused", "error"]
    assert {f["code"] for f in quality_reports[1]["flags"] if f["severity"] == "refuse"} == {
        "intensity_not_hu",
        "anatomy_mismatch",
    }
    assert quality_reports[2]["error"] == {
        "code": "empty",
        "message": "c.nii is empty (0 bytes). Copy or export it again.",
    }
    assert (
        run(
            "check",
            tmp_path / "in" / "b.nii.gz",
            "--downgrade-check",
            "intensity_not_hu",
            "--downgrade-check",
            "anatomy_mismatch",
        ).code
        == 0
    )


def test_the_table_of_several_shows_what_is_not_in_order(
    run: Run, make_scan: MakeScan, chest: NDArray[np.int16], tmp_path: Path
) -> None:
    make_scan("a.nii.gz", voxels=chest, folder=tmp_path / "in")
    make_scan("b.nii.gz", voxels=chest, folder=tmp_path / "in")
    outcome = run("check", tmp_path / "in")
    assert outcome.code == 0
    assert ["a.nii.gz", "ok"] in [line.split() for line in outcome.out.splitlines()]
    assert "duplicate" in outcome.out
    assert "orientation" not in outcome.out


def test_why_there_is_no_verdict_is_said_in_the_words_of_infer(
    run: Run, make_scan: MakeScan, make_model: MakeModel, chest: NDArray[np.int16], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    make_scan("flat.nii", voxels=chest[:, :, 0], folder=folder)
    short = make_scan("short.nii", voxels=chest, folder=folder)
    short.write_bytes(short.read_bytes()[:1000])
    records = [json.loads(line) for line in run("infer", folder, "-m", make_model(), "-f", "jsonl").out.splitlines()]
    assert [record["status"] for record in records] == ["refused", "error"]
    lines = run("check", folder).out.splitlines()
    rows = [line.split()[:3] for line in lines if line.startswith(("flat.nii ", "short.nii "))]
    assert [code.rstrip(",") for _, _, code in rows[:2]] == [record["error"]["code"] for record in records]
    assert [status for _, status, _ in rows[:2]] == ["refused", "error"]
    for record in records:
        assert any(line.startswith(f"{record['error']['code']} ({record['status']}): ") for line in lines)
    assert [quality_report["status"] for quality_report in json.loads(run("check", folder, "--json").out)] == [
        "refused",
        "error",
    ]


@pytest.mark.parametrize("code", ["nonsense", "truncated"])
def test_a_code_that_cannot_be_allowed_is_wrong_usage(run: Run, make_scan: MakeScan, code: str) -> None:
    outcome = run("check", make_scan(), "--downgrade-check", code)
    assert outcome.code == 2
    assert code in outcome.err


def test_a_patient_is_named_only_where_that_was_asked_for(run: Run, hu: NDArray[np.int16], tmp_path: Path) -> None:
    made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
    folder = made.write_series(tmp_path / "in", hu)
    for arguments in ([], ["--json"]):
        outcome = run("check", folder, *arguments)
        for secret in (made.PATIENT_NAME, made.PATIENT_ID):
            assert secret not in outcome.out + outcome.err
    named = run("check", folder, "--include-phi")
    assert made.PATIENT_NAME in named.out
    assert made.PATIENT_ID in named.out


def test_a_series_with_a_hole_keeps_its_other_flags(run: Run, hu: NDArray[np.int16], tmp_path: Path) -> None:
    made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
    folder = made.write_series(tmp_path / "in", hu)
    (folder / "005.dcm").unlink()
    outcome = run("check", folder, "--json")
    assert outcome.code == 1
    (quality_report,) = json.loads(outcome.out)
    codes = {flag["code"]: flag["severity"] for flag in quality_report["flags"]}
    assert codes["missing_slices"] == "refuse"
    assert codes["orientation"] == "ok"
