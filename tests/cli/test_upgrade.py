"""Model files, results and tuned choices that version 0.1 wrote are read by every later one, and say what they said.

What the files are, and how they were made, is told in tests/fixtures/v0_1/README.md.
"""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from written import V0_1, WITHIN, as_schema_2, assert_alike, earlier, records_of

from ct3d_edge.results.formats import parse_record, to_jsonl
from ct3d_edge.scan.qc_flag import current_code
from ct3d_edge.tuning.cache import parse_tuning_result, tuning_result_path

from .conftest import Run

ABOUT = {"README.md", "SHA256SUMS"}


def test_nobody_changed_them() -> None:
    """A change of names all over the tree must not reach what was written under the old ones."""
    sums = {
        name: digest
        for digest, name in (line.split("  ") for line in (V0_1 / "SHA256SUMS").read_text().split("\n")[:-1])
    }
    there = {path.relative_to(V0_1).as_posix(): path for path in V0_1.rglob("*") if path.is_file()}
    found = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in there.items() if name not in ABOUT}
    assert found == sums


@pytest.mark.parametrize("model", ["model.onnx", "tuned/version-2.onnx"])
def test_inspect_shows_of_a_model_what_it_showed(run: Run, old: Path, model: str) -> None:
    outcome = run("inspect", "--model", model, "--json")
    assert outcome.code == 0
    found, expected = json.loads(outcome.out), json.loads((old / f"{Path(model).stem}.inspect.json").read_text())
    assert expected["contract"]["schema"] == (3 if model == "model.onnx" else 2)
    del expected["graph"]["explanation"]  # names the option, which is called otherwise since
    for section, entries in expected.items():
        assert {name: found[section].get(name) for name in entries} == entries, section


def test_inspect_shows_range_and_statistics(run: Run, old: Path) -> None:
    told = run("inspect", "--model", "model.onnx").out
    assert "24 slices (32 scans)" in told
    assert "6 features of 32 scans, 5 directions; a distance above 2.25 is flagged (20 other scans)" in told


@pytest.mark.parametrize("model", ["model.onnx", "embedded.onnx", "tuned/version-2.onnx", "tuned/model.tuned.onnx"])
def test_verify_holds(run: Run, old: Path, model: str) -> None:
    outcome = run("verify", "--model", model, "-p", "cpu")
    assert outcome.code == 0
    assert "verified: 3 golden inputs on cpu" in outcome.out


@pytest.mark.parametrize(
    ("model", "label", "probability"),
    [("model.onnx", "abnormal", 0.0763572700), ("tuned/version-2.onnx", "affected", 0.0007144511)],
)
def test_infer_gives_the_probability_that_it_gave(
    run: Run, old: Path, model: str, label: str, probability: float
) -> None:
    outcome = run("infer", "scans/a_coarse.nii.gz", "-m", model, "-p", "cpu", "--ignore-tuning", "--format", "jsonl")
    (record,) = records_of(outcome.out)
    assert record["probability"][label] == pytest.approx(probability, abs=WITHIN)


def test_the_network_still_shows_where_it_looked(run: Run, old: Path) -> None:
    outcome = run("infer", "scans/a_coarse.nii.gz", "-m", "model.onnx", "-p", "cpu", "--gradcam-dir", "maps")
    assert outcome.code == 0
    assert list((old / "maps").rglob("*.nii.gz"))


def test_every_record_of_schema_1_is_read_and_written_as_schema_2() -> None:
    for name in ("results.jsonl", "interrupted.jsonl.journal"):
        lines = (V0_1 / name).read_bytes().splitlines(keepends=True)
        read = [json.loads(to_jsonl([parse_record(line)])) for line in lines]
        assert read == [as_schema_2(json.loads(line)) for line in lines]
    assert {record["status"] for record in records_of((V0_1 / "results.jsonl").read_text())} == {
        "ok",
        "warn",
        "refused",
        "error",
    }


def test_infer_finds_in_every_scan_what_it_found(run: Run, old: Path) -> None:
    options = ("scans", "-m", "model.onnx", "-p", "cpu", "--downgrade-check", "spacing")
    outcome = run("infer", *options, "--out", "new.jsonl")
    assert outcome.code == 1
    assert_alike(records_of((old / "new.jsonl").read_text()), earlier(old / "results.jsonl"))


def test_a_table_of_results_keeps_its_columns(run: Run, old: Path) -> None:
    run("infer", "scans", "-m", "model.onnx", "-p", "cpu", "--downgrade-check", "spacing", "--out", "new.csv")
    tables = []
    for name in ("new.csv", "results.csv"):
        with (old / name).open(newline="") as stream:
            tables.append(list(csv.DictReader(stream)))
    for one, other in zip(*tables, strict=True):
        assert other.keys() - {"findings"} <= one.keys()
        for column in ("scan", "status", "label", "model_sha256"):
            assert one[column] == other[column]
        assert one["error_code"] == current_code(other["error_code"])
        assert one["flags"].split(";") == [current_code(code) for code in other["findings"].split(";")]


def test_a_finished_run_is_not_done_again(run: Run, old: Path) -> None:
    options = ("scans", "-m", "model.onnx", "-p", "cpu", "--downgrade-check", "spacing")
    assert run("infer", *options, "--out", "results.jsonl", "--resume").code == 1
    assert_alike(records_of((old / "results.jsonl").read_text()), earlier(V0_1 / "results.jsonl"))


def test_an_interrupted_run_goes_on(run: Run, old: Path) -> None:
    kept = earlier(old / "interrupted.jsonl.journal")
    options = ("scans", "-m", "model.onnx", "-p", "cpu", "--downgrade-check", "spacing", "--out", "interrupted.jsonl")
    refused = run("infer", *options)
    assert refused.code == 2
    assert "holds its 6 records. Go on with it by --resume" in refused.err
    assert run("infer", *options, "--resume").code == 1
    written = (old / "interrupted.jsonl").read_text()
    assert_alike(records_of(written)[: len(kept)], kept)
    times = [record["timing_ms"] for record in records_of(written)]
    assert times[: len(kept)] == [record["timing_ms"] for record in kept], "six records were taken over"
    assert_alike(records_of(written), earlier(old / "results.jsonl"))
    assert not (old / "interrupted.jsonl.journal").exists()


@pytest.mark.parametrize(("model", "what"), [("model", "small"), ("version-2", "as given")])
def test_a_choice_is_followed_where_all_is_as_it_was(
    run: Run, old: Path, monkeypatch: pytest.MonkeyPatch, model: str, what: str
) -> None:
    path = old / "tuned" / f"{model}.onnx"
    choice = parse_tuning_result(tuning_result_path(path).read_bytes())
    monkeypatch.setattr("ct3d_edge.tuning.cache.tuning_key", lambda *_: choice.key)
    arguments = ("infer", "scans/a_coarse.nii.gz", "-m", path, "-p", "cpu", "--format", "jsonl")
    followed = run(*arguments, "--run-report", "receipt.json")
    assert f"tuned: {what}, fp32, 2 threads on cpu, from {model}.tuned.json" in followed.err
    told = json.loads((old / "receipt.json").read_text())
    assert (told["tuned"], told["model_sha256"]) == (True, choice.file_sha256)
    (record,), (plain,) = records_of(followed.out), records_of(run(*arguments, "--ignore-tuning").out)
    assert record["probability"] == pytest.approx(plain["probability"], abs=WITHIN)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"processor": "Abacus 3"}, "made on another processor (Intel(R) Xeon(R) Processor; here it is Abacus 3)"),
        ({"cores": 96}, "made with another number of cores (2; here it is 96)"),
        ({"versions": {}}, "made with ct3d-edge 0.1.0; here it is None"),
    ],
)
def test_a_choice_of_another_machine_or_version_is_left_aside(
    run: Run, old: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], why: str
) -> None:
    model = old / "tuned" / "model.onnx"
    here = replace(parse_tuning_result(tuning_result_path(model).read_bytes()).key, **change)
    monkeypatch.setattr("ct3d_edge.tuning.cache.tuning_key", lambda *_: here)
    outcome = run("infer", "scans/a_coarse.nii.gz", "-m", model, "-p", "cpu")
    assert outcome.code == 0
    assert f"model.tuned.json is not used: {why}; tune again, or --ignore-tuning" in outcome.err
