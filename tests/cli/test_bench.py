import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import MakeModel

from ct3d_edge.benchmark.scenarios import CLOCKS, DEVICE_RESIDENT
from ct3d_edge.benchmark.workload import STAGES
from ct3d_edge.errors import ProviderError
from ct3d_edge.latency.record import BenchRecord, read_record
from ct3d_edge.session.runner import ModelOutputs, Runner

from .conftest import Run


def test_bench_keeps_every_sample(run: Run, make_model: MakeModel, scans: Path, tmp_path: Path) -> None:
    record_file = tmp_path / "bench.json"
    outcome = run(
        "bench", "--model", make_model(), "--provider", "cpu", "--input", scans, "--runs", 7, "--out", record_file
    )
    assert outcome.code == 0
    record = read_record(record_file)
    assert set(record.samples.counted) == {*STAGES, DEVICE_RESIDENT}
    assert all(len(samples) == 7 for samples in record.samples.counted.values())
    assert all(10 <= len(samples) <= 50 for samples in record.samples.warmup.values())
    assert set(record.once) == {"import", "model file", "session", "first run"}
    assert record.conditions["receipt"]["actual"] == "cpu"
    assert record.conditions["scans"] == ["a.nii.gz", "b.nii.gz"]
    assert record.environment["cores_usable"] >= 1
    assert record.resources["model file, bytes"] == make_model().stat().st_size
    assert record.incomplete is None
    assert len(record.surroundings) >= 2
    assert "p99 needs 655 more runs" in outcome.out
    assert all(clock in outcome.out for clock in CLOCKS)


def test_clocks_nest(run: Run, make_model: MakeModel, scans: Path, tmp_path: Path) -> None:
    run("bench", "--model", make_model(), "--provider", "cpu", "--input", scans, "-n", 3, "--out", tmp_path / "x.json")
    record = read_record(tmp_path / "x.json")
    series = record.series()
    for inner, outer in zip(["run + copies", "+ preprocessing"], ["+ preprocessing", "file to decision"], strict=True):
        assert all(a < b for a, b in zip(series[inner], series[outer], strict=True))
    assert series["file to decision"] == pytest.approx(record.samples.total)


def test_a_precision_or_a_budget_decides_how_long(run: Run, make_model: MakeModel, scans: Path, tmp_path: Path) -> None:
    def measured(*options: object) -> BenchRecord:
        file = tmp_path / "x.json"
        assert run("bench", "--model", make_model(), "-p", "cpu", "--input", scans, "--out", file, *options).code == 0
        return read_record(file)

    precise = measured("--ci-width", "99%")
    assert len(precise.samples.total) >= 8
    assert precise.conditions["target_precision"] == 0.99
    short = measured("--time-limit", "0.05s", "--runs", 100_000)
    assert short.incomplete is not None
    assert "of 100000 runs" in short.incomplete


def test_a_precision_that_is_not_reached_is_said(run: Run, make_model: MakeModel, scans: Path) -> None:
    outcome = run(
        "bench",
        "--model",
        make_model(),
        "-p",
        "cpu",
        "--input",
        scans,
        "--ci-width",
        "0.0001%",
        "--time-limit",
        "1s",
    )
    assert "The time budget was spent: the median is known to ±" in outcome.out


@pytest.mark.parametrize(
    "options",
    [
        ("--runs", 0),
        ("--ci-width", "2"),
        ("--ci-width", "0%"),
        ("--ci-width", "-2%"),
        ("--time-limit", "soon"),
        ("--time-limit", "0s"),
        ("--time-limit", "-5s"),
    ],
)
def test_bench_refuses_amounts_that_mean_nothing(run: Run, make_model: MakeModel, options: tuple[object, ...]) -> None:
    assert run("bench", "--model", make_model(), *options).code == 2


def test_bench_names_a_scan_it_cannot_use(run: Run, make_model: MakeModel, tmp_path: Path) -> None:
    (tmp_path / "empty.nii.gz").touch()
    outcome = run("bench", "--model", make_model(), "--input", tmp_path / "empty.nii.gz")
    assert outcome.code == 2
    assert "cannot use" in outcome.err


@pytest.mark.parametrize("bad", ["absent", "record"])
def test_bench_refuses_an_unwritable_record(run: Run, make_model: MakeModel, tmp_path: Path, bad: str) -> None:
    target = tmp_path / "absent" / "x.json" if bad == "absent" else tmp_path
    assert run("bench", "--model", make_model(), "--out", target).code == 2


def test_a_model_that_fails_in_the_middle_leaves_what_was_measured(
    run: Run, make_model: MakeModel, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, calls = Runner.outputs, iter(range(10_000))

    def failing(runner: Runner, volumes: np.ndarray) -> ModelOutputs:
        if next(calls) == 70:
            raise ProviderError("ONNX Runtime failed on cpu while running: out of memory")
        return outputs(runner, volumes)

    monkeypatch.setattr(Runner, "outputs", failing)
    file = tmp_path / "x.json"
    outcome = run("bench", "--model", make_model(), "-p", "cpu", "--input", scans, "--runs", 500, "--out", file)
    assert outcome.code == 3
    assert "out of memory" in outcome.err
    assert "wrote" in outcome.err
    record = read_record(file)
    assert record.incomplete == "ONNX Runtime failed on cpu while running: out of memory"
    assert len(record.samples.warmup["infer"]) + len(record.samples.counted.get("infer", ())) == 69


def test_the_import_is_timed_before_anything_has_imported_it() -> None:
    code = (
        "import sys; from ct3d_edge.cli import app, bench\n"
        "bench.timed_import = lambda: sys.exit(7 if {'numpy', 'onnxruntime', 'nibabel'} & set(sys.modules) else 0)\n"
        "sys.argv = ['ct3d-edge', 'bench', '--runs', '1']; app.main()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_infer_loads_nothing_of_benchmarks(make_model: MakeModel, scans: Path) -> None:
    code = (
        "import sys; from ct3d_edge.cli import app\n"
        f"sys.argv = ['ct3d-edge', 'infer', {str(scans / 'a.nii.gz')!r}, '--model', {str(make_model())!r}]\n"
        "try: app.main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "print([name for name in sys.modules if name.startswith(('ct3d_edge.latency', 'ct3d_edge.benchmark'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_options_of_bench_itself_are_refused_before_a_subcommand(run: Run, tmp_path: Path) -> None:
    outcome = run("bench", "--runs", 5, "compare", tmp_path / "a.json", tmp_path / "b.json")
    assert outcome.code == 2
    assert "--runs is for `bench` itself;" in outcome.err


def test_a_page_without_its_extra_is_refused_before_the_work(
    run: Run, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.extras.find_spec", lambda _: None)
    outcome = run("bench", "-m", make_model(), "--html", tmp_path / "x.html")
    assert outcome.code == 3
    assert "This command needs jinja2, matplotlib, not installed here" in outcome.err
