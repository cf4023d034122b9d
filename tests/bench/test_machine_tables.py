"""What `bench.machine` measures, and the tables and pictures that come of it."""

import re
from pathlib import Path

import pytest
from builders import MakeModel, MakeScan

from bench import machine
from bench.tables import update_tables
from ct3d_edge.errors import UsageError
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import BenchRecord, read_record

MACHINE = {"cpu": "A Processor", "cores_usable": 2}
RECEIPT = {"actual": "cpu", "threads": 2, "versions": {"onnxruntime": "1.2", "cuda": None}}


def page_of(record: BenchRecord, folder: Path) -> str:
    """The page that a record gives."""
    (folder / "results").mkdir()
    record.save(folder / "results" / "record.json")
    return update_tables("<!-- from results/record.json -->\n<!-- end -->\n", folder)


def test_a_sweep_shows_scans_a_second_of_each_configuration(tmp_path: Path) -> None:
    made = {f"threads {n}, batch {b}": {"threads": n, "batch": b} for n in (1, 2) for b in (1, 4)}
    taken: dict[str, tuple[float, ...]] = {
        name: (400.0 * facts["batch"] / facts["threads"],) * 2 for name, facts in made.items()
    }
    taken["threads 2, batch 4"] = ()  # broken off before it began
    conditions = {"receipt": RECEIPT, "configurations": made}
    record = BenchRecord("q", MACHINE, conditions, {}, Samples({}, taken), arrangement="blocks", incomplete="Ctrl-C")
    page = page_of(record, tmp_path)
    assert re.findall(r"^\| \d.*$", page, re.MULTILINE) == [
        "| 1 | 1 | 400.0 | 2.50 | 1.00 |",
        "| 1 | 4 | 1600.0 | 2.50 | 1.00 |",
        "| 2 | 1 | 200.0 | 5.00 | 2.00 |",
    ]
    assert "Versions: onnxruntime 1.2." in page
    assert "Incomplete: Ctrl-C." in page
    assert (tmp_path / "pictures" / "record.svg").is_file()


def test_rates_are_sorted_and_a_rate_given_up_is_said(tmp_path: Path) -> None:
    taken = {
        "one after the other": (100.0,) * 8,
        "8.00 scans a second": (300.0,) * 10,
        "5.00 scans a second": (120.0,) * 64,
    }
    conditions = {
        "receipt": RECEIPT,
        "tail": "p90",
        "bound_ms": 250.0,
        "plan": {"requests": 64},
        "capacity_per_s": 10.0,
        "highest_rate_per_s": 5.0,
    }
    record = BenchRecord("q", MACHINE, conditions, {}, Samples({}, taken), arrangement="blocks")
    page = page_of(record, tmp_path)
    rows = re.findall(r"^\| \d.*$", page, re.MULTILINE)
    assert rows == ["| 5 | 50% | 120 | 120 |", "| 8 | 80% | 300 | 300 (given up after 10) |"]
    assert "5 scans a second is the highest rate tried that keeps p90 within 250 ms" in page


def test_a_record_of_another_sort_is_named(tmp_path: Path) -> None:
    record = BenchRecord("q", MACHINE, {"other": 1}, {}, Samples({}, {"a": (1.0,)}), arrangement="blocks")
    with pytest.raises(UsageError, match=r"record\.json has none of the conditions contestants"):
        page_of(record, tmp_path)


@pytest.mark.parametrize(("cores", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_threads_double_up_to_all_cores(cores: int, counts: list[int]) -> None:
    assert machine.thread_counts(cores) == counts


@pytest.mark.slow
def test_the_questions_are_asked_of_the_command_itself(
    make_model: MakeModel, make_scan: MakeScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "results").mkdir()
    scans = make_scan("a.nii.gz", folder=tmp_path / "scans").parent
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "results")
    monkeypatch.setattr("sys.argv", ["machine", "--model", str(make_model()), "--input", str(scans)])
    machine.main()
    marks = [f"<!-- from results/{name}.json -->\n<!-- end -->\n" for name in ("layers", "sweep", "rates")]
    page = update_tables("\n".join(marks), tmp_path)
    told = read_record(tmp_path / "results" / "layers.json").conditions["profile"]
    assert all(f"| {layer} | {facts['ms']:.1f} |" in page for layer, facts in told["layers"].items())
    assert f"Bottleneck: {told['verdict']}." in page
    assert "Memory: added by the session" in page
    assert page.count("provider cpu") == 3
