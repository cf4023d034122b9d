"""The bundled model on an NVIDIA card: its session, its golden test, a scan, a benchmark, and the commands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ct3d_edge
from ct3d_edge.latency.record import read_record
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import run_golden_test

pytestmark = pytest.mark.gpu

CLOSE = 1e-3
"""Of a probability on the card to that on the CPU: convolutions on it may round to TF32."""


def command(*arguments: object, cwd: Path) -> str:
    """Output of ``ct3d-edge`` in a process of its own, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "ct3d_edge", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_card_does_the_work(runner: Runner, provider: ProviderName) -> None:
    report = runner.run_report
    assert report.actual == provider
    assert dict(report.nodes)[provider] > 0


def test_the_golden_test_of_the_bundled_model_holds(runner: Runner) -> None:
    result = run_golden_test(runner)
    assert result.passed, result.describe(runner.run_report.actual)


def test_a_scan_has_the_probabilities_of_the_cpu(runner: Runner, provider: ProviderName, phantom: Path) -> None:
    found = {}
    for name in (provider, "cpu"):
        with ct3d_edge.load_model(provider=name) as model:
            prediction = model.predict(phantom).prediction
        assert prediction is not None
        found[name] = dict(prediction.probability)
    assert found[provider] == pytest.approx(found["cpu"], abs=CLOSE)


def test_infer_writes_a_result_with_the_provider(
    runner: Runner, provider: ProviderName, phantom: Path, tmp_path: Path
) -> None:
    command("infer", phantom, "--provider", provider, "--out", "results.jsonl", cwd=tmp_path)
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["provider"]["actual"] == provider


def test_bench_records_runs_on_the_card(runner: Runner, provider: ProviderName, phantom: Path, tmp_path: Path) -> None:
    command("bench", "--provider", provider, "--input", phantom, "--runs", 3, "--out", "bench.json", cwd=tmp_path)
    record = read_record(tmp_path / "bench.json")
    assert record.conditions["receipt"]["actual"] == provider
    assert all(len(samples) == 3 for samples in record.samples.counted.values())
