import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import MakeModel, MakeScan

from ct3d_edge.benchmark.scenarios import CLOCKS, DEVICE_RESIDENT
from ct3d_edge.benchmark.workload import STAGES
from ct3d_edge.cli.bench_scenarios import BenchTarget
from ct3d_edge.errors import ProviderError
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import BenchRecord, read_record
from ct3d_edge.latency.system_monitor import SystemSnapshot
from ct3d_edge.session.runner import ModelOutputs, Runner

from .conftest import Run


@pytest.fixture
def scans(make_scan: MakeScan, tmp_path: Path) -> Path:
    """Folder with two small scans."""
    for name in ("a.nii.gz", "b.nii.gz"):
        make_scan(name, folder=tmp_path / "scans")
    return tmp_path / "scans"


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


def test_options_of_bench_itself_are_refused_before_a_subcommand(run: Run, tmp_path: Path) -> None:
    outcome = run("bench", "--runs", 5, "compare", tmp_path / "a.json", tmp_path / "b.json")
    assert outcome.code == 2
    assert "--runs is for `bench` itself;" in outcome.err


def saved(path: Path, level: float, count: int = 100, **changes: Any) -> Path:
    """A record of normal durations around a level."""
    draw = np.random.default_rng(round(level * 7 + count))
    counted = {
        "read": tuple(map(float, draw.normal(50, 1, count))),
        "infer": tuple(map(float, draw.normal(level, 2, count))),
    }
    record = BenchRecord("how long?", {"cpu": "some"}, {}, {}, Samples({}, counted))
    replace(record, **changes).save(path)
    return path


def test_compare_says_slower_and_no_significant_difference(run: Run, tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a.json", 300), saved(tmp_path / "b.json", 330)
    outcome = run("bench", "compare", a, b)
    assert outcome.code == 0
    rows = {line.split()[0]: line for line in outcome.out.splitlines() if "p50" in line}
    assert "no significant difference" in rows["read"]
    assert "% slower" in rows["infer"]
    assert "% slower" in rows["total"]
    assert "p99" not in outcome.out, "100 runs are too few for it"


@pytest.mark.parametrize(
    ("thresholds", "code"),
    [
        (["p50 > +5%"], 4),
        (["p50 > +20%"], 0),
        (["read p50 > 1%"], 0),
        (["p50 > +20%", "infer p90 > 310ms"], 4),
        (["p90 > 500 ms"], 0),
        (["p50 > five"], 2),
        (["p99 > 5%"], 2),
        (["decide p50 > 5%"], 2),
    ],
)
def test_thresholds_decide_the_exit_code(run: Run, tmp_path: Path, thresholds: list[str], code: int) -> None:
    a, b = saved(tmp_path / "a.json", 300), saved(tmp_path / "b.json", 330)
    outcome = run("bench", "compare", a, b, *(word for text in thresholds for word in ("--fail-if", text)))
    assert outcome.code == code
    if code == 4:
        assert "error: Exceeded: " in outcome.err


def test_a_threshold_exceeded_under_other_load_is_inconclusive(run: Run, tmp_path: Path) -> None:
    quiet = (SystemSnapshot(0, 0, 0, 0), SystemSnapshot(100, 100, 100, 0))
    for number, loaded in enumerate(
        [(SystemSnapshot(0, 0, 0, 0), SystemSnapshot(100, 100, 180, 0)), (quiet[0], SystemSnapshot(100, 100, 100, 20))]
    ):
        a = saved(tmp_path / f"a{number}.json", 300, surroundings=quiet)
        b = saved(tmp_path / f"b{number}.json", 330, surroundings=loaded)
        for one, other in ((a, b), (b, a)):
            outcome = run("bench", "compare", one, other, "--fail-if", "p50 > +5%")
            assert outcome.code == (5 if other == b else 0)
        assert run("bench", "compare", a, b, "--fail-if", "p50 > +5%").err.count("Inconclusive") == 1
        still = saved(tmp_path / f"c{number}.json", 330, surroundings=quiet)
        assert run("bench", "compare", a, still, "--fail-if", "p50 > +5%").code == 4


def test_another_machine_is_refused_unless_forced(run: Run, tmp_path: Path) -> None:
    a, b = saved(tmp_path / "a.json", 300), saved(tmp_path / "b.json", 300, environment={"cpu": "other"})
    outcome = run("bench", "compare", a, b)
    assert outcome.code == 2
    assert "cpu: some and other" in outcome.err
    forced = run("bench", "compare", a, b, "--force")
    assert forced.code == 0
    assert "Compared although they differ in cpu: some and other" in forced.err


def test_contestants_of_one_record_are_compared_in_pairs(run: Run, tmp_path: Path) -> None:
    drift = np.linspace(1, 3, 60)
    counted = {"ours": tuple(map(float, drift)), "theirs": tuple(map(float, 2 * drift))}
    record = BenchRecord("who?", {}, {}, {}, Samples({}, counted), arrangement="in turn")
    record.save(tmp_path / "r.json")
    outcome = run("bench", "compare", f"{tmp_path}/r.json:ours", f"{tmp_path}/r.json:theirs")
    assert outcome.code == 0
    assert "Paired" in outcome.out
    assert "100.0% slower" in outcome.out
    assert run("bench", "compare", f"{tmp_path}/r.json:ours", f"{tmp_path}/r.json:nobody").code == 2


def test_what_is_no_record_is_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"schema": 9, "samples_ms": {}}))
    outcome = run("bench", "compare", tmp_path / "x.json", tmp_path / "x.json")
    assert outcome.code == 2
    assert "schema version 9" in outcome.err
    assert run("bench", "compare", tmp_path / "absent.json", tmp_path / "x.json").code == 2


def test_history_compares_each_record_with_the_one_before(run: Run, tmp_path: Path) -> None:
    for day, level in enumerate([300, 300, 340, 340], start=1):
        environment = {"cpu": "other" if day == 4 else "some"}
        created = f"2026-01-0{day}T00:00:00+00:00"
        saved(tmp_path / f"{9 - day}.json", level + day / 100, created=created, environment=environment)
    (tmp_path / "x.json").write_text("{}")
    outcome = run("bench", "history", tmp_path)
    assert outcome.code == 0
    assert outcome.out.startswith("how long?: total\n")
    rows = [line for line in outcome.out.splitlines() if ".json" in line]
    assert [row[:16] for row in rows] == [f"2026-01-0{day} 00:00" for day in (1, 2, 3, 4)]
    assert "no significant difference" in rows[1]
    assert "% slower" in rows[2]
    assert rows[3].endswith("not comparable: cpu: some and other")
    assert "x.json is not a benchmark record" in outcome.err
    assert "how long?: read" in run("bench", "history", tmp_path, "--metric", "read").out


def test_history_of_nothing_is_wrong_usage(run: Run, tmp_path: Path) -> None:
    assert run("bench", "history", tmp_path / "absent").code == 2
    assert run("bench", "history", tmp_path).code == 2
    saved(tmp_path / "a.json", 300)
    assert "no record with counted runs of 'dream'" in run("bench", "history", tmp_path, "--metric", "dream").err


def test_a_page_without_its_extra_is_refused_before_the_work(
    run: Run, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.extras.find_spec", lambda _: None)
    outcome = run("bench", "-m", make_model(), "--html", tmp_path / "x.html")
    assert outcome.code == 3
    assert "This command needs jinja2, matplotlib, not installed here" in outcome.err


def test_a_record_is_shown_again_and_written_as_a_page(run: Run, tmp_path: Path) -> None:
    outcome = run("bench", "show", saved(tmp_path / "a.json", 300), "--html", tmp_path / "a.html")
    assert outcome.code == 0
    assert "p99 needs 562 more runs" in outcome.out
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert run("bench", "show", tmp_path / "absent.json").code == 2


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
