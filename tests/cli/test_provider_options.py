import json
from pathlib import Path

import pytest
from builders import MakeModel, MakeScan

from ct3d_edge.latency.record import read_record

from .conftest import Run


@pytest.fixture
def commands(make_model: MakeModel, make_scan: MakeScan) -> dict[str, list[object]]:
    """Each command that opens a session, with what it cannot do without."""
    model: Path = make_model()
    return {
        "infer": ["infer", make_scan(), "--model", model],
        "verify": ["verify", "--model", model],
        "bench": ["bench", "--model", model, "--input", make_scan("bench.nii"), "--runs", 2],
    }


ALL = pytest.mark.parametrize("command", ["infer", "verify", "bench"])


@ALL
def test_an_option_reaches_the_session(run: Run, commands: dict[str, list[object]], command: str) -> None:
    outcome = run(*commands[command], "--provider", "cpu", "--provider-option", "intra_op_num_threads=1")
    assert outcome.code == 0
    assert ", 1 thread\n" in outcome.err


@ALL
def test_a_wrong_option_is_answered_with_the_right_ones(
    run: Run, commands: dict[str, list[object]], command: str
) -> None:
    outcome = run(*commands[command], "--provider", "cpu", "--provider-option", "threads=1")
    assert outcome.code == 2
    assert "no option 'threads=1'. Valid are: intra_op_num_threads=a whole number from 1 to 1024;" in outcome.err


@ALL
def test_an_option_needs_a_provider_by_name(run: Run, commands: dict[str, list[object]], command: str) -> None:
    outcome = run(*commands[command], "--provider-option", "use_tf32=1")
    assert outcome.code == 2
    assert "Name it with --provider" in outcome.err


@ALL
def test_the_cpu_has_no_device_by_number(run: Run, commands: dict[str, list[object]], command: str) -> None:
    assert run(*commands[command], "--provider", "cpu", "--device-id", 0).code == 2
    assert run(*commands[command], "--device-id", -1).code == 2


@ALL
def test_the_run_report_is_written(
    run: Run, commands: dict[str, list[object]], command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run(*commands[command], "--provider", "cpu", "--run-report", "receipt.json")
    assert outcome.code == 0
    assert "wrote receipt.json" in outcome.err
    told = json.loads((tmp_path / "receipt.json").read_text())
    assert (told["requested"], told["actual"], told["tuned"]) == ("cpu", "cpu", False)


@ALL
def test_a_run_report_that_cannot_be_written_stops_everything_before_it_starts(
    run: Run, commands: dict[str, list[object]], command: str, tmp_path: Path
) -> None:
    outcome = run(*commands[command], "--run-report", tmp_path / "absent" / "receipt.json")
    assert outcome.code == 2
    assert "provider" not in outcome.err


def test_the_run_report_of_a_benchmark_is_in_its_record_too(
    run: Run, commands: dict[str, list[object]], tmp_path: Path
) -> None:
    run_report, record = tmp_path / "receipt.json", tmp_path / "bench.json"
    run(*commands["bench"], "--provider", "cpu", "--run-report", run_report, "--out", record)
    assert json.loads(record.read_text())["conditions"]["receipt"] == json.loads(run_report.read_text())


@pytest.mark.parametrize("arguments", [("build", "-p", "tensorrt"), ("verify", "-p", "tensorrt", "--no-build")])
def test_without_a_gpu_an_engine_is_neither_built_nor_found(
    run: Run, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr("ct3d_edge.providers.nvidia.CUDA_DRIVER", str(tmp_path / "libcuda.so.1"))
    model = make_model()
    outcome = run(*arguments, *(["--model", model] if arguments[0] == "build" else [model]))
    assert outcome.code == 3
    assert "Provider tensorrt cannot do the work here" in outcome.err
    assert ("--allow-fallback" in outcome.err) is (arguments[0] == "verify")


def test_only_tensorrt_builds_ahead(run: Run, make_model: MakeModel) -> None:
    outcome = run("build", "--provider", "cuda", "--model", make_model())
    assert outcome.code == 2
    assert "tensorrt" in outcome.err


def test_bench_measures_on_openvino_with_resources_and_threads(
    openvino: None, run: Run, make_model: MakeModel, make_scan: MakeScan, tmp_path: Path
) -> None:
    record = tmp_path / "bench.json"
    common = ("bench", "--model", make_model(), "-p", "openvino", "--input", make_scan(), "-n", 3, "--out", record)
    assert run(*common, "--resources").code == 0
    assert read_record(record).conditions["receipt"]["actual"] == "openvino"
    assert read_record(record).resources["peak resident, bytes"]
    assert run(*common, "--sweep", "threads=1").code == 0
    assert read_record(record).conditions["receipt"]["threads"] == 1
