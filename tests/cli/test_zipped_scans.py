"""Scans in zip archives on the command line: predicted in place, found again by name, known as duplicates."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from .conftest import Run

made = pytest.importorskip("dicom_files")


@pytest.fixture
def ward(tmp_path: Path, make_scan: MakeScan, hu: NDArray[np.int16]) -> Path:
    """A series as a folder and zipped, a NIfTI file in an archive, and archives that hold no scan."""
    ward = tmp_path / "ward"
    study = made.write_series(ward / "study", hu)
    shutil.make_archive(str(ward / "zipped"), "zip", study)
    make_scan("scan.nii.gz", voxels=(hu + 40).astype(np.int16), folder=tmp_path / "other")
    shutil.make_archive(str(ward / "other"), "zip", tmp_path, "other")
    (ward / "broken.zip").write_bytes(b"PK, and no more")
    (ward / "old.tar.gz").write_bytes(b"x")
    return ward


def test_archives_are_predicted_in_place_and_resumed(run: Run, ward: Path, make_model: MakeModel) -> None:
    out = ward.parent / "results.jsonl"
    command = ("infer", ward, "--model", make_model(), "-p", "cpu", "--out", out)
    files = sorted(ward.rglob("*"))
    outcome = run(*command)
    assert outcome.code == 1
    assert "old.tar.gz: archive" in outcome.err
    first = [json.loads(line) for line in out.read_bytes().splitlines()]
    records = {Path(record["scan"]).relative_to(ward).as_posix(): record for record in first}
    assert list(records) == ["broken.zip", "other.zip/other/scan.nii.gz", "study", "zipped.zip"]
    assert records["broken.zip"]["error"]["code"] == "bad_archive"
    assert records["zipped.zip"]["scan_sha256"] == records["study"]["scan_sha256"]
    assert records["zipped.zip"]["probability"] == records["study"]["probability"]
    assert "duplicate" in [flag["code"] for flag in records["zipped.zip"]["flags"]]
    assert run(*command, "--resume").code == 1
    assert [json.loads(line) for line in out.read_bytes().splitlines()] == first
    assert sorted(ward.rglob("*")) == files


def test_a_scan_in_an_archive_is_checked_and_shown_by_its_name(run: Run, ward: Path) -> None:
    scan = ward / "other.zip" / "other" / "scan.nii.gz"
    for given in (scan, ward / "other.zip"):
        (report,) = json.loads(run("check", given, "--json").out)
        assert report["scan"] == str(scan)
        assert report["error"] is None
    assert run("view", ward / "zipped.zip", "--out", ward.parent / "a.png").code == 0
