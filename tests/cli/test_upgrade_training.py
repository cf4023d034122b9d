"""Benchmarks, splits, evaluations and training runs that version 0.1 wrote are read by every later one."""

import csv
import json
from dataclasses import fields
from pathlib import Path

import pytest
from builders import DOWNGRADE_ALL
from networks import KERAS
from written import V0_1, WITHIN, assert_alike, earlier, figures_of, records_of

from ct3d_edge.contract import Contract
from ct3d_edge.splits.split_file import read_split, to_json

from .conftest import Run

needs_keras = pytest.mark.skipif(not KERAS, reason="needs the extra 'train'")


def test_a_benchmark_is_shown_again(run: Run, old: Path) -> None:
    outcome = run("bench", "show", "bench.json")
    assert outcome.code == 0
    assert "From a scan file to its probability, one scan at a time, 2026-11-27T22:11:1" in outcome.out
    medians = dict(
        line.rsplit(maxsplit=1) for line in outcome.out.splitlines() if line.startswith(("read ", "file to decision "))
    )
    assert medians == {"read": "1.4", "file to decision": "3.7"}


@pytest.mark.parametrize(("record", "series"), [("bench.json", 7), ("sweep.json", 2)])
def test_a_benchmark_is_compared(run: Run, old: Path, record: str, series: int) -> None:
    outcome = run(
        "bench", "compare", record, record, "--fail-if", "p50 > +5%" if series == 7 else "threads 1, batch 1 p50 > +5%"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("1.000") == outcome.out.count("no significant difference") == series
    assert run("bench", "compare", "bench.json", "sweep.json").code == 2


@pytest.mark.parametrize("split", ["split.json", "run/split.json"])
def test_a_split_is_read_and_written_alike(split: str) -> None:
    assert to_json(read_split(V0_1 / split)) == (V0_1 / split).read_text()


@pytest.mark.parametrize("model", ["model.onnx", pytest.param("run", marks=[needs_keras, pytest.mark.slow])])
def test_evaluate_gives_the_figures_that_it_gave(run: Run, old: Path, model: str) -> None:
    pytest.importorskip("sklearn")
    options = ("cohort", "--split", "split.json", "--resamples", 100, "--json", *DOWNGRADE_ALL)
    outcome = run("evaluate", "--model", model, *options, *(() if model == "run" else ("-p", "cpu")))
    assert outcome.code == 0, outcome.err
    found, expected = json.loads(outcome.out), json.loads((old / "evaluation" / "evaluation.json").read_text())
    assert figures_of(found) == pytest.approx(figures_of(expected), abs=WITHIN)
    assert len(figures_of(expected)) > 20
    del expected["data"]["findings"], found["data"]["flags"]  # quality checks are run since
    assert found["data"] == expected["data"]


def test_the_contract_of_a_training_run_keeps_its_hash(old: Path) -> None:
    text = (old / "run" / "contract.json").read_text()
    contract = Contract.from_json(text)
    assert contract.to_json() == text
    assert contract.sha256 == records_of((old / "results.jsonl").read_text())[0]["contract_sha256"]


@needs_keras
def test_a_training_run_is_exported_again_and_never_overwritten(run: Run, old: Path) -> None:
    from ct3d_edge.training.history import EpochRecord

    refused = run("train", "cohort", "--out", "run", "--shape", 16, 16, 12)
    assert refused.code == 2
    assert "already holds a trained model.keras" in refused.err
    with (old / "run" / "history.csv").open(newline="") as stream:
        epochs = [EpochRecord(**row) for row in csv.DictReader(stream)]  # type: ignore[arg-type]
    assert len(epochs) == 24
    assert set(vars(epochs[0])) == {field.name for field in fields(EpochRecord)}
    outcome = run("export", "--model", "run", "--out", "again.onnx", "--parity-data", "cohort")
    assert outcome.code == 0, outcome.err
    options = ("scans/i_not_hu.nii.gz", "-p", "cpu", "--format", "jsonl", "--downgrade-check", "spacing")
    (again,) = records_of(run("infer", *options, "-m", "again.onnx").out)
    (expected,) = [r for r in earlier(old / "results.jsonl") if r["scan"] == again["scan"]]
    assert_alike([again | {"model_sha256": expected["model_sha256"]}], [expected])
