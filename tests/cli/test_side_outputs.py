"""Maps, pictures and reports that cannot be written: each costs itself, never a record and never the run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import DICOM, LAS, MakeModel, MakeScan
from numpy.typing import NDArray

from .conftest import Run

ROOT = Path(__file__).parents[2]
MAIN = "from ct3d_edge.cli.app import main; main()"
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"
"""No file may grow beyond that many bytes: a disk that is full for large files and not for small ones."""


def with_little_room(room: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own that can write no large file."""
    return subprocess.run(
        [sys.executable, "-c", f"{LIMIT.format(room)}\n{MAIN}", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def records_of(path: Path) -> dict[str, dict[str, Any]]:
    """File name to record."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return {Path(record["scan"]).name: record for record in records}


def side_flags(record: dict[str, Any]) -> list[tuple[str, str]]:
    """Option and sentence of what is missing."""
    return [
        (found["value"], found["detail"]) for found in record["flags"] if found["code"] == "auxiliary_output_failed"
    ]


@pytest.fixture
def scans(tmp_path: Path, make_scan: MakeScan, hu: NDArray[np.int16]) -> Path:
    folder = tmp_path / "scans"
    for number, name in enumerate(("a.nii", "b.nii", "c.nii")):
        make_scan(name, voxels=(hu + 7 * number).astype(np.int16), folder=folder)
    return folder


def test_a_map_that_cannot_be_written_costs_that_map(
    run: Run, explaining_model: Path, scans: Path, tmp_path: Path
) -> None:
    maps, out = tmp_path / "maps", tmp_path / "r.jsonl"
    (maps / "b_gradcam.nii.gz").mkdir(parents=True)
    command = ("infer", scans, "-m", explaining_model, "-p", "cpu", "-o", out, "--resume", "--gradcam-dir", maps)
    outcome = run(*command)
    assert outcome.code == 1
    assert "--gradcam-dir has no output of 1 scan; the records give the reason (auxiliary_output_failed)" in outcome.err
    assert "3 scans (2 ok, 1 warn)" in outcome.err
    records = records_of(out)
    assert [bool(side_flags(record)) for record in records.values()] == [False, True, False]
    assert records["b.nii"]["status"] == "warn"
    assert records["b.nii"]["probability"] is not None
    ((option, sentence),) = side_flags(records["b.nii"])
    assert option == "--gradcam-dir"
    assert f"Cannot write {maps / 'b_gradcam.nii.gz'}" in sentence
    assert {f"{name}_gradcam.png" for name in "ac"} < {path.name for path in maps.iterdir()}
    again = run(*command)
    assert (again.code, out.read_text()) == (1, out.read_text())
    (maps / "b_gradcam.nii.gz").rmdir()
    assert run(*command).code == 0, "what was in the way is gone"
    assert not any(map(side_flags, records_of(out).values()))
    assert records_of(out)["b.nii"]["status"] == "ok"
    assert len(list(maps.iterdir())) == 6


def test_a_folder_into_which_nothing_was_written_is_not_said_to_be(
    run: Run, explaining_model: Path, make_scan: MakeScan, tmp_path: Path
) -> None:
    scan, maps = make_scan("a.nii"), tmp_path / "maps"
    (maps / "a_gradcam.nii.gz").mkdir(parents=True)
    command = ("infer", scan, "-m", explaining_model, "-p", "cpu", "--gradcam-dir", maps)
    assert "wrote" not in run(*command).err
    (maps / "a_gradcam.nii.gz").rmdir()
    assert f"wrote {maps}" in run(*command).err


def another_model(path: Path) -> Path:
    """The same network in a file of another hash."""
    proto = onnx.load(path)
    proto.doc_string = "another"
    other = path.with_name("another.onnx")
    other.write_bytes(proto.SerializeToString())
    return other


def test_a_picture_of_another_model_does_not_pass_for_one_of_this(
    run: Run, explaining_model: Path, scans: Path, tmp_path: Path
) -> None:
    maps, out, picture = tmp_path / "maps", tmp_path / "r.jsonl", tmp_path / "maps" / "b_gradcam.png"
    rest = ("-p", "cpu", "-o", out, "--resume", "--gradcam-dir", maps)
    assert run("infer", scans, "-m", explaining_model, *rest).code == 0
    of_another = picture.rename(tmp_path / "of_another.png")
    picture.mkdir()
    model = another_model(explaining_model)
    assert run("infer", scans, "-m", model, *rest).code == 1
    picture.rmdir()
    of_another.rename(picture)
    stale = picture.stat().st_ino
    assert run("infer", scans, "-m", model, *rest).code == 0
    assert picture.stat().st_ino != stale
    assert len(list(maps.iterdir())) == 6


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX systems")
def test_no_map_stays_beside_the_picture_of_another_model(
    run: Run, explaining_model: Path, make_scan: MakeScan, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    scan = make_scan("b.nii", voxels=rng.integers(-900, 300, (160, 160, 40)).astype(np.int16), folder=tmp_path / "one")
    maps = tmp_path / "maps"
    rest = ("-p", "cpu", "--gradcam-dir", maps, "--downgrade-check", "anatomy_mismatch")
    assert run("infer", scan, "-m", explaining_model, *rest).code == 0
    assert len(list(maps.iterdir())) == 2
    outcome = with_little_room(30_000, "infer", scan, "-m", another_model(explaining_model), *rest)
    assert outcome.returncode == 1, outcome.stderr
    assert [path.name for path in maps.iterdir()] == ["b_gradcam.png"]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX systems")
def test_a_disk_too_full_for_one_map_costs_that_map(
    explaining_model: Path, make_scan: MakeScan, scans: Path, tmp_path: Path
) -> None:
    """A map has as many voxels as its scan, so that of the largest scan is the one that does not fit."""
    rng = np.random.default_rng(3)
    make_scan("b.nii", voxels=rng.integers(-900, 300, (160, 160, 40)).astype(np.int16), affine=LAS, folder=scans)
    maps, out = tmp_path / "maps", tmp_path / "r.jsonl"
    outcome = with_little_room(
        30_000,
        "infer",
        scans,
        "-m",
        explaining_model,
        "-p",
        "cpu",
        "-o",
        out,
        "--gradcam-dir",
        maps,
        "--downgrade-check",
        "anatomy_mismatch",
    )
    assert outcome.returncode == 1, outcome.stderr
    records = records_of(out)
    assert [bool(side_flags(record)) for record in records.values()] == [False, True, False]
    assert "File too large" in side_flags(records["b.nii"])[0][1]
    assert [path.name for path in sorted(maps.glob("*.nii.gz"))] == ["a_gradcam.nii.gz", "c_gradcam.nii.gz"]
    assert "Traceback" not in outcome.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX systems")
def test_a_report_and_a_picture_that_do_not_fit_cost_themselves(
    scans: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    out, report, montage = tmp_path / "r.jsonl", tmp_path / "report.html", tmp_path / "m.png"
    outcome = with_little_room(
        4000, "infer", scans, "-m", make_model(), "-p", "cpu", "-o", out, "--report", report, "--montage", montage
    )
    assert outcome.returncode == 1, outcome.stderr
    assert f"--report: Cannot write {report}: File too large." in outcome.stderr
    assert f"wrote {report}" not in outcome.stderr
    assert f"wrote {out}" in outcome.stderr
    assert not report.exists()
    assert montage.exists() == (f"wrote {montage}" in outcome.stderr)
    assert all(record["probability"] for record in records_of(out).values())
    assert "Traceback" not in outcome.stderr


def test_a_scan_that_is_gone_when_its_map_is_made_again(
    run: Run, explaining_model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record was taken over, and then the scan went away; the page still has a row for it."""
    from ct3d_edge.inference.model import Model

    out, maps, report = tmp_path / "r.jsonl", tmp_path / "maps", tmp_path / "report.html"
    command = ("infer", scans, "-m", explaining_model, "-p", "cpu", "-o", out, "--resume")
    assert run(*command).code == 0
    again = Model.recompute

    def remove(model: Model, record: Any, seconds: float | None = None) -> Any:
        if record.scan.endswith("b.nii"):
            (scans / "b.nii").unlink()
        return again(model, record, seconds)

    monkeypatch.setattr(Model, "recompute", remove)
    outcome = run(*command, "--gradcam-dir", maps, "--report", report)
    assert outcome.code == 1
    found = side_flags(records_of(out)["b.nii"])
    assert [option for option, _ in found] == ["--report", "--gradcam-dir"]
    assert all("b.nii does not exist" in sentence for _, sentence in found)
    assert len(list(maps.iterdir())) == 4
    page = report.read_text()
    assert all(f"{name}.nii</button>" in page for name in "abc")


@pytest.mark.skipif(not DICOM, reason="python-gdcm or highdicom is not installed")
def test_a_structured_report_that_cannot_be_written_costs_that_report(
    run: Run, make_model: MakeModel, hu: NDArray[np.int16], tmp_path: Path
) -> None:
    from dicom_files import write_series

    ward, reports, out = tmp_path / "ward", tmp_path / "sr", tmp_path / "r.jsonl"
    for number, name in enumerate(("a", "b", "c")):
        write_series(ward / name, (hu + 7 * number).astype(np.int16), f"1.2.{number + 3}")
    (reports / "b_sr.dcm").mkdir(parents=True)
    command = ("infer", ward, "-m", make_model(), "-p", "cpu", "-o", out, "--resume", "--include-phi")
    outcome = run(*command, "--dicom-sr", reports)
    assert outcome.code == 1
    assert [bool(side_flags(record)) for record in records_of(out).values()] == [False, True, False]
    assert sorted(path.name for path in reports.iterdir() if path.is_file()) == ["a_sr.dcm", "c_sr.dcm"]
    shutil.rmtree(reports / "b_sr.dcm")
    assert run(*command, "--dicom-sr", reports).code == 0
    assert (reports / "b_sr.dcm").is_file()


@pytest.mark.skipif(not DICOM, reason="python-gdcm or highdicom is not installed")
def test_a_series_of_several_patients_that_was_allowed_gets_no_report(
    run: Run, make_model: MakeModel, hu: NDArray[np.int16], tmp_path: Path
) -> None:
    from dicom_files import series_datasets, write_datasets

    datasets = series_datasets(hu)
    datasets[0].PatientID = "another"
    ward, out = write_datasets(tmp_path / "ward", datasets), tmp_path / "r.jsonl"
    command = ("infer", ward, "-m", make_model(), "-p", "cpu", "-o", out, "--include-phi")
    outcome = run(*command, "--downgrade-check", "mixed_patients", "--dicom-sr", tmp_path / "sr")
    assert outcome.code == 1
    ((option, sentence),) = side_flags(records_of(out)["ward"])
    assert option == "--dicom-sr"
    assert "several patients or studies" in sentence
    assert list((tmp_path / "sr").iterdir()) == []
