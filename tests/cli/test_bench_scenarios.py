"""Scenarios of `bench`: sweeps, a server, resources and profiles."""

from dataclasses import replace
from pathlib import Path

import pytest
from builders import MakeModel

from ct3d_edge.cli.bench_scenarios import BenchTarget
from ct3d_edge.latency.record import read_record
from ct3d_edge.session.runner import Runner

from .conftest import Run


def test_a_sweep_is_a_table_of_every_configuration(
    run: Run, make_model: MakeModel, scans: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.json"
    words = ("bench", "-m", make_model(), "-p", "cpu", "--input", scans, "-n", 9, "--out", file)
    outcome = run(*words, "--sweep", "threads=1,2", "--sweep", "batch=1,3")
    assert outcome.code == 0
    rows = [line.split()[:3] for line in outcome.out.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert rows == [["1", "1", "9"], ["1", "3", "9"], ["2", "1", "9"], ["2", "3", "9"]]
    record = read_record(file)
    assert record.arrangement == "blocks"
    assert {name: len(values) for name, values in record.samples.counted.items()} == dict.fromkeys(
        ("threads 1, batch 1", "threads 1, batch 3", "threads 2, batch 1", "threads 2, batch 3"), 9
    )
    assert run("bench", "compare", file, file).code == 0


def test_offline_sweeps_batches_with_the_threads_there_are(run: Run, make_model: MakeModel, scans: Path) -> None:
    outcome = run("bench", "-m", make_model(), "-p", "cpu", "--input", scans, "--scenario", "offline", "-n", 2)
    assert outcome.code == 0
    batches = [line.split()[1] for line in outcome.out.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert batches == ["1", "2", "4", "8"]


@pytest.mark.slow
def test_server_finds_a_rate_or_says_that_none_holds(
    run: Run, make_model: MakeModel, scans: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.json"
    words = ("bench", "-m", make_model(), "-p", "cpu", "--input", scans, "--scenario", "server", "--out", file)
    lenient = run(*words, "--latency-slo", "1m")
    assert lenient.code == 0
    assert "is the highest rate tried that keeps p90 within 60000 ms" in lenient.out
    record = read_record(file)
    rates = [values for name, values in record.samples.counted.items() if name != "one after the other"]
    assert [len(values) for values in rates] == [64] * 5
    assert record.conditions["highest_rate_per_s"] == pytest.approx(record.conditions["capacity_per_s"] * 31 / 32)
    strict = run(*words, "--latency-slo", "0.001ms")
    assert strict.code == 0
    assert "No rate tried keeps p90" in strict.out


@pytest.mark.slow
def test_resources_are_those_of_a_fresh_process(run: Run, make_model: MakeModel, scans: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    words = ("bench", "-m", make_model(), "-p", "cpu", "--input", scans, "-n", 1, "--out", file)
    outcome = run(*words, "--resources")
    assert outcome.code == 0
    found = read_record(file).resources
    before, peak = found["resident before the model, bytes"], found["peak resident, bytes"]
    assert before is not None
    assert peak is not None
    assert 10e6 < before < peak
    assert "energy of the CPU packages" in outcome.out
    assert (found["CPU seconds a scan"] or 0) > 0


@pytest.mark.parametrize(
    "options",
    [
        ("--resources", "--sweep", "batch=1"),
        ("--resources", "--scenario", "server"),
        ("--sweep", "speed=1,2"),
        ("--sweep", "threads=0"),
        ("--sweep", "threads=1,-2"),
        ("--sweep", "threads="),
        ("--sweep", "batch=1,1"),
        ("--sweep", "batch=1", "--sweep", "batch=2"),
        ("--scenario", "server", "--runs", 63),
        ("--scenario", "server", "--sweep", "batch=1"),
        ("--latency-slo", "1s"),
        ("--scenario", "server", "--latency-slo", "-1s"),
    ],
)
def test_scenarios_that_contradict_themselves_are_wrong_usage(run: Run, options: tuple[object, ...]) -> None:
    assert run("bench", *options).code == 2


@pytest.mark.slow
def test_a_profile_shows_every_layer_and_goes_into_the_record(
    run: Run, make_model: MakeModel, scans: Path, tmp_path: Path
) -> None:
    file = tmp_path / "x.json"
    outcome = run("bench", "-m", make_model(), "-p", "cpu", "--input", scans, "-n", 3, "--profile", "--out", file)
    assert outcome.code == 0
    told = read_record(file).conditions["profile"]
    assert len(told["layers"]) >= 3
    assert all(name in outcome.out for name in told["layers"])
    assert f"Bottleneck: {told['verdict']}." in outcome.out
    assert told["verdict"] == max(told["parts_ms"], key=told["parts_ms"].__getitem__)
    assert min(told["ceilings"]["gflop_per_s"], told["ceilings"]["gb_per_s"]) > 0


def test_a_profile_is_refused_before_anything_is_measured_if_a_gpu_does_the_work(
    run: Run, make_model: MakeModel, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = BenchTarget.open

    def on_a_gpu(target: BenchTarget, threads: int | None = None) -> Runner:
        runner = opened(target, threads)
        runner.run_report = replace(runner.run_report, actual="cuda")
        return runner

    monkeypatch.setattr(BenchTarget, "open", on_a_gpu)
    file = tmp_path / "x.json"
    outcome = run("bench", "-m", make_model(), "-p", "cpu", "--input", scans, "--profile", "--out", file)
    assert outcome.code == 2
    assert "--profile times operators on the CPU provider; here cuda runs them" in outcome.err
    assert "Add --provider cpu" in outcome.err
    assert not file.exists()


@pytest.mark.parametrize("options", [("--sweep", "threads=1,2"), ("--scenario", "offline")])
def test_a_profile_is_for_one_scan_at_a_time(run: Run, make_model: MakeModel, options: tuple[str, ...]) -> None:
    outcome = run("bench", "-m", make_model(), "--profile", *options)
    assert outcome.code == 2
    assert "--profile is for --scenario single without --sweep" in outcome.err
