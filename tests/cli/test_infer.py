import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from builders import MakeModel, MakeScan, tiny_proto
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ProviderError
from ct3d_edge.inference import predict_many as folder_pipeline
from ct3d_edge.inference.predict import ScanResult, predict_batch
from ct3d_edge.inference.prepare import PreparedScan

from .conftest import Run

CODES = {
    "2d_slice.nii.gz": "two_dimensional",
    "4d_two_volumes.nii.gz": "multiple_volumes",
    "bad_crc.nii.gz": "bad_checksum",
    "empty.nii.gz": "empty",
    "single_slice.nii.gz": "single_slice",
    "truncated.nii.gz": "truncated",
}
OTHER_VOXELS = {"nonsquare_200x236.nii.gz"}


def test_a_broken_scan_gets_a_record_and_the_others_their_answer(
    run: Run, folder: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    results = tmp_path / "results.jsonl"
    outcome = run("infer", folder, "--model", make_model(), "--provider", "cpu", "--out", results)
    assert outcome.code == 1
    records = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(Path(r["scan"]).name, r["status"]) for r in records] == [
        ("a.nii.gz", "ok"),
        ("b.nii.gz", "error"),
        ("c.nii", "warn"),
    ]
    assert records[1]["error"]["code"] == "empty"
    assert records[0]["probability"] == records[2]["probability"]
    assert [flag["code"] for flag in records[2]["flags"]] == ["duplicate"]
    assert "3 scans (1 ok, 1 warn, 1 error)" in outcome.err
    assert str(results) in outcome.err
    assert "b.nii.gz is empty" in " ".join(outcome.out.split())


def test_all_well_is_exit_code_0_and_says_the_tutorials_sentence(
    run: Run, make_scan: MakeScan, make_model: MakeModel
) -> None:
    outcome = run("infer", make_scan(), "--model", make_model())
    assert outcome.code == 0
    assert outcome.out.count("percent confident that CT scan is") == 2
    assert "provider" in outcome.err


def test_jsonl_on_standard_output_is_nothing_but_json(run: Run, folder: Path, make_model: MakeModel) -> None:
    outcome = run("infer", folder, "--model", make_model(), "--format", "jsonl")
    assert [json.loads(line)["schema"] for line in outcome.out.splitlines()] == [2, 2, 2]


def test_csv_has_a_row_a_scan(run: Run, folder: Path, make_model: MakeModel, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    outcome = run("infer", folder, "--model", make_model(), "--format", "csv", "--out", out)
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [row["status"] for row in rows] == ["ok", "error", "warn"]
    assert float(rows[0]["p_normal"]) + float(rows[0]["p_abnormal"]) == pytest.approx(1)
    assert out.read_text() == outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no file or folder nowhere"),
        (["{empty}"], "No scans under"),
        (["{scan}", "--out", "results.txt"], "Use one of: .jsonl, .csv"),
        (["{scan}", "--out", "no/such/folder/results.csv"], "Cannot write no/such/folder/results.csv"),
        (["{scan}", "--provider", "npu"], "is not one of"),
        (["{scan}", "--format", "xml"], "is not one of"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"empty": str(tmp_path / "empty"), "scan": str(make_scan())}
    outcome = run("infer", *(a.format(**places) for a in arguments), "--model", make_model())
    assert outcome.code == 2
    assert message in " ".join(outcome.err.replace("│", " ").split())


def test_a_model_that_cannot_be_used_is_exit_code_3_before_any_scan_is_read(
    run: Run, make_scan: MakeScan, make_model: MakeModel, contract: Contract, tmp_path: Path
) -> None:
    truncated, foreign, bare = (tmp_path / name for name in ("truncated.onnx", "foreign.onnx", "bare.onnx"))
    truncated.write_bytes(make_model().read_bytes()[:300])
    foreign.write_text("not a model")
    proto = tiny_proto(contract)
    del proto.metadata_props[:]
    bare.write_bytes(proto.SerializeToString())
    outside = tmp_path / "outside.onnx"
    onnx.save_model(tiny_proto(contract), outside, save_as_external_data=True, location="w.bin", size_threshold=0)
    for path in (truncated, foreign, bare, outside, tmp_path / "absent.onnx"):
        outcome = run("infer", make_scan(), "--model", path)
        assert outcome.code == 3, path
        assert len(outcome.err.strip().splitlines()) == 1, "one clear sentence"
        assert outcome.err.startswith("error: ")
        assert path.name in outcome.err
        assert outcome.out == ""


@pytest.mark.parametrize(("stop", "code"), [(KeyboardInterrupt(), 130), (ProviderError("out of memory"), 3)])
def test_what_was_answered_before_the_end_is_kept(
    run: Run,
    folder: Path,
    make_model: MakeModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: BaseException,
    code: int,
) -> None:
    def broken_off(readings: list[PreparedScan], *rest: Any) -> list[ScanResult]:
        if any(reading.scan.endswith("c.nii") for reading in readings):
            raise stop
        return predict_batch(readings, *rest)

    results, journal = tmp_path / "results.jsonl", tmp_path / "results.jsonl.journal"
    command = ("infer", folder, "--model", make_model(), "--out", results, "--format", "jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(folder_pipeline, "predict_batch", broken_off)
        outcome = run(*command)
    assert outcome.code == code
    assert journal.read_text() == outcome.out
    assert len(outcome.out.splitlines()) == 2
    assert "1 not reached" in outcome.err
    assert f"{journal} holds 2 records; go on with --resume" in outcome.err
    assert not results.exists()

    refused = run(*command)
    assert refused.code == 2
    assert "journal holds its 2 records. Go on with it by --resume" in refused.err
    resumed = run(*command, "--resume")
    assert resumed.code == 1
    assert results.read_text() == resumed.out
    assert resumed.out.startswith(outcome.out), "what was answered is taken over, times included"
    assert len(resumed.out.splitlines()) == 3
    assert not journal.exists()


@pytest.mark.parametrize(("option", "name"), [("--out", "folder.jsonl"), ("--montage", "folder.png")])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    run: Run, folder: Path, make_model: MakeModel, tmp_path: Path, option: str, name: str
) -> None:
    place = tmp_path / name
    place.mkdir()
    outcome = run("infer", folder, "--model", make_model(), option, place)
    assert outcome.code == 2
    assert "that is not a file" in outcome.err
    assert "provider" not in outcome.err, "no session was made"


def test_what_is_no_chest_in_hu_is_refused_unless_it_is_allowed(
    run: Run, make_scan: MakeScan, hu: NDArray[np.int16], tmp_path: Path
) -> None:
    scan, results = make_scan(voxels=hu + 1024), tmp_path / "results.jsonl"
    outcome = run("infer", scan, "--provider", "cpu", "--out", results)
    assert outcome.code == 1
    record = json.loads(results.read_text())
    assert (record["status"], record["error"]["code"], record["probability"]) == ("refused", "intensity_not_hu", None)
    assert "--downgrade-check intensity_not_hu" in outcome.err
    assert {"intensity_not_hu", "anatomy_mismatch"} <= {flag["code"] for flag in record["flags"]}
    allowed = ["--downgrade-check", "intensity_not_hu", "--downgrade-check", "anatomy_mismatch"]
    assert run("infer", scan, "--provider", "cpu", "--out", results, *allowed).code == 0
    assert json.loads(results.read_text())["status"] == "warn"


def test_dicom_series_are_answered_like_the_volumes_they_hold(
    run: Run, make_scan: MakeScan, make_model: MakeModel, hu: NDArray[np.int16], tmp_path: Path
) -> None:
    made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
    folder, results = tmp_path / "in", tmp_path / "results.jsonl"
    made.write_series(folder / "chest", hu)
    hole = made.write_series(folder / "hole", hu - 7, "1.2.4")
    (hole / "005.dcm").unlink()
    make_scan("same.nii.gz", affine=made.affine(hu.shape), folder=folder)
    assert run("infer", folder, "--model", make_model(), "--out", results).code == 1
    nifti, chest, holed = map(json.loads, results.read_text().splitlines())
    assert [Path(record["scan"]).name for record in (nifti, chest, holed)] == ["same.nii.gz", "chest", "hole"]
    assert chest["probability"] == pytest.approx(nifti["probability"], abs=1e-6)
    assert (holed["status"], holed["error"]["code"]) == ("refused", "missing_slices")
    assert chest["timing_ms"]["read"] > 0
    one = run(
        "infer",
        folder,
        "--model",
        make_model(),
        "--out",
        results,
        "--series-uid",
        "1.2.4",
        "--downgrade-check",
        "missing_slices",
    )
    assert one.code == 0
    assert len(results.read_text().splitlines()) == 1
    for secret in (made.PATIENT_NAME, made.PATIENT_ID):
        assert secret not in results.read_text() + one.out + one.err


def test_a_patient_is_in_a_record_only_where_that_was_asked_for(
    run: Run, make_model: MakeModel, hu: NDArray[np.int16], tmp_path: Path
) -> None:
    made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
    folder, results = made.write_series(tmp_path / "in", hu), tmp_path / "results.jsonl"
    run("infer", folder, "--model", make_model(), "--out", results, "--include-phi")
    record = json.loads(results.read_text())
    assert record["status"] == "ok"
    assert [(f["code"], f["severity"]) for f in record["flags"]] == [("identifiers", "ok")]
    assert made.PATIENT_NAME in record["flags"][0]["detail"]


@pytest.mark.slow
def test_every_odd_file_in_one_run(run: Run, real_scans: Path, tmp_path: Path) -> None:
    results = tmp_path / "odd.jsonl"
    command = (
        "infer",
        real_scans / "odd",
        "--provider",
        "cpu",
        "--format",
        "jsonl",
        "--downgrade-check",
        "no_orientation",
    )
    outcome = run(*command, "--out", results)
    assert outcome.code == 1
    records = {Path(r["scan"]).name: r for r in map(json.loads, results.read_text().splitlines())}
    failed = {name: r["error"]["code"] for name, r in records.items() if r["error"]}
    assert failed == CODES
    assert len(set(failed.values())) == len(failed), "distinct codes"
    sound = {n: r["probability"]["abnormal"] for n, r in records.items() if n not in CODES}
    base = sound["base_int16_LAS.nii.gz"]
    assert {n: p for n, p in sound.items() if n not in OTHER_VOXELS} == pytest.approx(
        {n: base for n in sound if n not in OTHER_VOXELS}, abs=1e-4
    )
    assert all(0 <= sound[name] <= 1 for name in OTHER_VOXELS)


def test_a_memory_budget_that_cannot_be_kept_is_refused(
    run: Run, make_scan: MakeScan, make_model: MakeModel, hu: NDArray[np.int16]
) -> None:
    scans = [make_scan("a.nii"), make_scan("b.nii", voxels=hu + 5)]
    for chosen in (scans, scans[:1]):
        outcome = run("infer", *chosen, "-m", make_model(), "-p", "cpu", "--max-memory", "10KB")
        assert outcome.code == 2
        assert "One scan takes about" in outcome.err
        assert outcome.out == ""
    assert run("infer", *scans, "-m", make_model(), "-p", "cpu", "--max-memory", "1GB").code == 0
