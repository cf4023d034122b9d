import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from records import ANSWERED, FAILED

from ct3d_edge.errors import UsageError
from ct3d_edge.results.formats import check_results_path, format_csv_row, to_csv, to_jsonl, write_results
from ct3d_edge.results.record import RECORD_SCHEMA, Prediction, ScanFailure, Timing

LABELS = ("normal", "abnormal")

HARD_PATHS = {
    "comma": "a,b.nii",
    "quotes": 'a "quoted" name.nii',
    "newline": "a\nb.nii",
    "carriage return": "a\rb.nii",
    "both": "a\r\nb.nii",
    "ends in a newline": "a.nii\r\n",
    "letters of other alphabets": "Köln/肺.nii",
    "bytes that are no UTF-8": os.fsdecode(b"a\xff\xfe.nii"),
    "blanks at its ends": " a.nii ",
    "semicolon": "a;b.nii",
}


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_an_answered_scan_has_exactly_the_documented_fields() -> None:
    assert json.loads(to_jsonl([ANSWERED])) == {
        "schema": RECORD_SCHEMA,
        "scan": "folder/scan.nii.gz",
        "scan_sha256": "f" * 64,
        "input_sha256": None,
        "allowed": [],
        "status": "warn",
        "label": "abnormal",
        "probability": {"normal": 0.25, "abnormal": 0.75},
        "threshold": 0.5,
        "flags": [
            {"code": "oblique", "severity": "warn", "detail": "Tilted.", "value": None},
            {"code": "extension_mismatch", "severity": "warn", "detail": "Renamed.", "value": None},
        ],
        "error": None,
        "timing_ms": {"read": 1.5, "preprocess": 2.25, "infer": 4.0, "total": 7.75},
        "model_sha256": "m" * 64,
        "contract_sha256": "c" * 64,
        "provider": {"requested": "auto", "actual": "cpu", "nodes": {"cpu": 5}, "precision": None},
    }


def test_a_failed_scan_has_the_same_fields_and_an_error() -> None:
    failed, has_prediction = FAILED.to_dict(), ANSWERED.to_dict()
    assert failed.keys() == has_prediction.keys()
    assert failed["error"] == {"code": "truncated", "message": "scan.nii.gz ends too early."}
    assert [failed[name] for name in ("label", "probability", "threshold")] == [None] * 3
    assert failed["timing_ms"] == {"read": None, "preprocess": None, "infer": None, "total": 0}


def test_a_record_knows_whether_it_is_answered() -> None:
    assert ANSWERED.has_prediction
    assert not FAILED.has_prediction


@pytest.mark.parametrize("label", LABELS)
def test_confidence_is_the_probability_of_the_class_decided_on(label: str) -> None:
    answer = Prediction(label, (("normal", 0.25), ("abnormal", 0.75)), 0.5)
    assert answer.confidence == dict(answer.probability)[label]


@pytest.mark.parametrize(
    ("timing", "total"),
    [(Timing(), 0), (Timing(read=1), 1), (Timing(1, 2), 3), (Timing(1, 2, 4), 7), (Timing(infer=0.5), 0.5)],
)
def test_the_total_is_the_sum_of_the_stages_that_ran(timing: Timing, total: float) -> None:
    assert timing.total == total


def test_json_lines_are_one_object_a_line_in_order() -> None:
    text = to_jsonl([ANSWERED, FAILED, ANSWERED])
    assert text.endswith("\n")
    assert [json.loads(line)["status"] for line in text.splitlines()] == ["warn", "error", "warn"]
    assert to_jsonl([]) == ""


@pytest.mark.parametrize("path", HARD_PATHS.values(), ids=HARD_PATHS)
def test_any_path_comes_back_from_json(path: str) -> None:
    text = to_jsonl([replace(ANSWERED, scan=path)])
    assert text.count("\n") == 1
    assert json.loads(text)["scan"] == path


def test_nan_is_never_written_as_json() -> None:
    broken = replace(ANSWERED, prediction=Prediction("normal", (("normal", float("nan")), ("abnormal", 0.5)), 0.5))
    with pytest.raises(ValueError, match="JSON"):
        to_jsonl([broken])


def test_csv_holds_the_record_in_named_columns() -> None:
    has_prediction, failed = rows(to_csv([ANSWERED, FAILED], LABELS))
    assert has_prediction == {
        "scan": "folder/scan.nii.gz",
        "status": "warn",
        "label": "abnormal",
        "p_normal": "0.25",
        "p_abnormal": "0.75",
        "threshold": "0.5",
        "flags": "oblique;extension_mismatch",
        "error_code": "",
        "error_message": "",
        "read_ms": "1.5",
        "preprocess_ms": "2.25",
        "infer_ms": "4.0",
        "total_ms": "7.75",
        "provider_requested": "auto",
        "provider": "cpu",
        "model_sha256": "m" * 64,
    }
    assert failed["error_code"] == "truncated"
    assert failed["error_message"] == "scan.nii.gz ends too early."
    assert [failed[name] for name in ("label", "p_normal", "threshold", "flags", "read_ms")] == [""] * 5


def test_csv_without_records_is_its_header() -> None:
    assert to_csv([], LABELS).splitlines() == [to_csv([ANSWERED], LABELS).splitlines()[0]]


def test_csv_lines_end_in_one_newline() -> None:
    text = to_csv([ANSWERED, FAILED], LABELS)
    assert text.count("\n") == 3
    assert "\r" not in text


def test_csv_keeps_every_digit() -> None:
    probability = 1 / 3
    record = replace(
        ANSWERED, prediction=Prediction("normal", (("normal", 1 - probability), ("abnormal", probability)), 0.5)
    )
    (row,) = rows(to_csv([record], LABELS))
    assert float(row["p_abnormal"]) == probability


@pytest.mark.parametrize("path", HARD_PATHS.values(), ids=HARD_PATHS)
def test_any_text_comes_back_from_csv(path: str) -> None:
    failed = replace(FAILED, scan=path, failure=ScanFailure("not_found", f"{path} does not exist."))
    first, second = rows(to_csv([failed, ANSWERED], LABELS))
    assert (first["scan"], first["error_message"]) == (path, f"{path} does not exist.")
    assert second["scan"] == ANSWERED.scan


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("=cmd|' /C calc'!A0.nii", "'=cmd|' /C calc'!A0.nii"),
        ("+1.nii", "'+1.nii"),
        ("-1.nii", "'-1.nii"),
        ("@SUM(1).nii", "'@SUM(1).nii"),
        ("\t=1.nii", "'\t'=1.nii"),
        ("\ra.nii", "'\ra.nii"),
        ("  =1.nii", "'  =1.nii"),
        ("\uff1d1.nii", "'\uff1d1.nii"),
        ("a;=1+1.nii", "a;'=1+1.nii"),
        ("a\n=1.nii", "a\n'=1.nii"),
        ("a=1-2+3@4;b.nii", "a=1-2+3@4;b.nii"),
        ("'=1.nii", "'=1.nii"),
    ],
)
def test_what_a_spreadsheet_would_run_is_text(name: str, told: str) -> None:
    failed = replace(FAILED, scan=name, failure=ScanFailure("not_found", f"{name} does not exist."))
    (row,) = rows(to_csv([failed], LABELS))
    assert (row["scan"], row["error_message"]) == (told, f"{told} does not exist.")


def test_numbers_in_csv_stay_numbers() -> None:
    assert format_csv_row([-0.5, 1e-3, None, -3, "-3"]) == "-0.5,0.001,,-3,'-3\n"


@pytest.mark.parametrize("label", ["with, comma", 'with "quotes"', "ä"])
def test_any_class_name_can_be_a_column(label: str) -> None:
    record = replace(ANSWERED, prediction=Prediction(label, (("normal", 0.25), (label, 0.75)), 0.5))
    (row,) = rows(to_csv([record], ("normal", label)))
    assert row[f"p_{label}"] == "0.75"


@pytest.mark.parametrize("path", HARD_PATHS.values(), ids=HARD_PATHS)
@pytest.mark.parametrize("name", ["OUT.CSV", "Out.JsonL"])
def test_a_file_holds_every_path_and_is_readable_as_utf8(tmp_path: Path, name: str, path: str) -> None:
    write_results(tmp_path / name, [replace(ANSWERED, scan=path), FAILED], LABELS)
    text = (tmp_path / name).read_bytes().decode("utf-8")
    if name.lower().endswith(".csv"):
        found = [row["scan"] for row in rows(text)]
    else:
        found = [json.loads(line)["scan"] for line in text.splitlines()]
        assert found == [path, FAILED.scan]
        return
    # A spreadsheet has no way to hold bytes that are no UTF-8; they are shown as escapes.
    assert found == [path.encode("utf-8", "backslashreplace").decode(), FAILED.scan]


@pytest.mark.parametrize("path", HARD_PATHS.values(), ids=HARD_PATHS)
def test_a_parquet_file_holds_every_field_in_its_type(tmp_path: Path, path: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, the extra parquet")
    write_results(tmp_path / "out.parquet", [replace(ANSWERED, scan=path), FAILED], LABELS)
    predicted, failed = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert ANSWERED.prediction
    assert FAILED.failure
    assert predicted["scan"] == path.encode("utf-8", "backslashreplace").decode()
    assert tuple(predicted[f"p_{label}"] for label in LABELS) == tuple(dict(ANSWERED.prediction.probability).values())
    assert predicted["flags"] == [flag.code for flag in ANSWERED.flags]
    assert (predicted["total_ms"], predicted["model_sha256"]) == (ANSWERED.timing.total, ANSWERED.model_sha256)
    assert (failed["label"], failed["error_code"]) == (None, FAILED.failure.code)


def test_a_parquet_file_of_no_scan_has_its_columns(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, the extra parquet")
    write_results(tmp_path / "none.parquet", [], LABELS)
    write_results(tmp_path / "some.parquet", [ANSWERED], LABELS)
    none, some = (parquet.read_table(tmp_path / f"{name}.parquet").schema for name in ("none", "some"))
    assert none == some


def test_a_failed_write_leaves_the_old_results(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("before")
    broken = replace(ANSWERED, timing=Timing(read=float("nan")))
    with pytest.raises(ValueError, match="JSON"):
        write_results(out, [broken], LABELS)
    assert out.read_text() == "before"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "OUT.CSV", "a.b.jsonl", "out.parquet"])
def test_known_endings_are_accepted(tmp_path: Path, name: str) -> None:
    check_results_path(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.txt", "out", "out.json", "csv", ".csv", "out.csv.gz"])
def test_unknown_endings_are_refused_with_those_that_exist(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.jsonl, \.csv, \.parquet"):
        check_results_path(tmp_path / name)


def test_a_missing_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot write .*nowhere"):
        check_results_path(tmp_path / "nowhere" / "out.csv")
