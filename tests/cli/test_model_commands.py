import json
from pathlib import Path

import pytest
from builders import MakeModel

from ct3d_edge.contract import Contract

from .conftest import Run


def test_inspect_shows_every_part(run: Run, make_model: MakeModel) -> None:
    outcome = run("inspect", make_model())
    assert outcome.code == 0
    for word in ("file", "graph", "contract", "golden test", "provenance", "Conv", "hu_window", "-1000, 400"):
        assert word in outcome.out


def test_inspect_json_is_for_programs(run: Run, make_model: MakeModel, contract: Contract) -> None:
    facts = json.loads(run("inspect", make_model(), "--json").out)
    assert facts["contract"]["shape"] == [16, 12, 8]
    assert facts["contract"]["sha256"] == contract.sha256
    assert facts["graph"]["operators"]["Conv"] == 1
    assert facts["golden test"]["seeds"] == [1, 2]


def test_inspect_refuses_what_is_no_model(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_text("x")
    assert run("inspect", tmp_path / "x.onnx").code == 3


def test_verify_passes_and_says_by_how_much(run: Run, make_model: MakeModel) -> None:
    outcome = run("verify", make_model(), "--provider", "cpu")
    assert outcome.code == 0
    assert outcome.out.startswith("verified: 2 golden inputs on cpu")


def test_verify_fails_with_exit_code_4(run: Run, make_model: MakeModel) -> None:
    outcome = run("verify", make_model(expected=0.123, tolerance=1e-6))
    assert outcome.code == 4
    assert "golden test does not hold" in outcome.err


def test_bench_keeps_every_sample(run: Run, make_model: MakeModel, tmp_path: Path) -> None:
    record_file = tmp_path / "bench.json"
    scans = tmp_path / "scans"
    run("data", "synth", "--out", scans, "--scans", 2, "--shape", 32, 32, 16)
    outcome = run(
        "bench",
        "--model",
        make_model(),
        "--provider",
        "cpu",
        "--scans",
        scans,
        "--runs",
        7,
        "--json",
        record_file,
    )
    assert outcome.code == 0
    record = json.loads(record_file.read_text())
    assert set(record["samples_ms"]) == {"read", "preprocess", "infer"}
    assert all(len(samples) == 7 for samples in record["samples_ms"].values())
    assert all(len(samples) == 3 for samples in record["warmup_ms"].values())
    assert set(record["once_ms"]) == {"import", "model file", "session", "first run"}
    assert record["conditions"]["receipt"]["actual"] == "cpu"
    assert len(record["conditions"]["scans"]) == 2, "masks are no scans"
    assert record["environment"]["cores_usable"] >= 1
    assert "p99 needs 655 more runs" in outcome.out


def test_bench_refuses_zero_runs(run: Run, make_model: MakeModel) -> None:
    assert run("bench", "--model", make_model(), "--runs", 0).code == 2


def test_bench_names_a_scan_it_cannot_use(run: Run, make_model: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "empty.nii.gz").touch()
    outcome = run("bench", "--model", make_model(), "--scans", tmp_path / "empty.nii.gz")
    assert outcome.code == 2
    assert "cannot use" in outcome.err


@pytest.mark.parametrize("bad", ["absent", "record"])
def test_bench_refuses_an_unwritable_record(run: Run, make_model: MakeModel, tmp_path: Path, bad: str) -> None:
    target = tmp_path / "absent" / "x.json" if bad == "absent" else tmp_path
    assert run("bench", "--model", make_model(), "--json", target).code == 2
