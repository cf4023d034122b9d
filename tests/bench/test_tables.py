"""Tables and pictures from a small record made up for the purpose."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.tables import HERE, update_tables
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.system_monitor import SystemSnapshot

OURS, THEIRS, READER = "network: ours", "network: theirs", "preprocessing: reader"
PAGE = "before\n<!-- from results/contest.json -->\nold\n<!-- end -->\nafter\n"


def contestant(key: str, *, ours: bool) -> dict[str, object]:
    kind, _, name = key.partition(": ")
    return {"kind": kind, "name": name, "ours": ours, "difference": 1.5e-7, "versions": {"library": "1.2"}}


RECORD = BenchRecord(
    "which?",
    {"cpu": "A Processor", "cores_usable": 2},
    {
        "groups": 1,
        "rounds": 8,
        "threads": 2,
        "scans": ["a.nii.gz", "b.nii.gz"],
        "contestants": {
            THEIRS: contestant(THEIRS, ours=False),
            OURS: contestant(OURS, ours=True),
            READER: contestant(READER, ours=False),
        },
        "left_out": {"network: absent": "not installed here: absent"},
    },
    {},
    Samples(
        {},
        {
            THEIRS: tuple(30.0 + n for n in range(8)),
            OURS: tuple(10.0 + n / 3 for n in range(8)),
            READER: tuple(5.0 + n for n in range(8)),
        },
    ),
    arrangement="in turn",
    resources={f"{OURS}, peak resident, bytes": 2e8, f"{THEIRS}, peak resident, bytes": None},
    created="2026-01-02T03:04:05+00:00",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    RECORD.save(tmp_path / "results" / "contest.json")
    return tmp_path


def test_rows_are_sorted_and_hold_median_interval_ratio_difference_memory(folder: Path) -> None:
    page = update_tables(PAGE, folder)
    rows = [line for line in page.splitlines() if line.startswith("|") and "1.5e-07" in line]
    assert rows == [
        "| **ours** | 11.0 (10.0..12.3) |  | 1.5e-07 | 200 |",
        "| theirs | 33.0 (30.0..37.0) | 3.00 (3.00..3.00) | 1.5e-07 |  |",
        "| reader | 8.0 (5.0..12.0) |  | 1.5e-07 |  |",
    ]
    assert "A Processor, 2 cores, 2 threads each; 2 scans; rounds: 8, times in fresh processes: 1; 2026-01-02." in page
    assert "library 1.2" in page
    assert "- network: absent: not installed here: absent" in page


def test_each_precision_has_a_table_and_the_processor_its_units(folder: Path) -> None:
    facts = RECORD.conditions["contestants"]
    contestants = {**facts, THEIRS: {**facts[THEIRS], "precision": "bf16"}, OURS: {**facts[OURS], "precision": "fp32"}}
    replace(
        RECORD,
        environment={**RECORD.environment, "cpu_flags": ["avx2", "avx512f", "avx512_bf16"]},
        conditions={**RECORD.conditions, "contestants": contestants},
    ).save(folder / "results" / "contest.json")
    page = update_tables(PAGE, folder)
    assert "A Processor (AVX2, AVX-512, BF16; no VNNI, AMX), 2 cores" in page
    full, rounded = page.split("**A network input to its probability, in bf16**")
    assert "**A network input to its probability, in fp32**" in full
    assert "| **ours** |" in full
    assert "| theirs | 33.0 (30.0..37.0) |  | 1.5e-07 |  |" in rounded, "no ratio to another precision"
    assert "**A scan file to a network input**" in rounded


def test_a_plan_may_compare_across_precisions(folder: Path) -> None:
    facts = RECORD.conditions["contestants"]
    conditions = {
        **RECORD.conditions,
        "contestants": {**facts, THEIRS: {**facts[THEIRS], "precision": "bf16"}},
        "across_precisions": True,
    }
    replace(RECORD, conditions=conditions).save(folder / "results" / "contest.json")
    page = update_tables(PAGE, folder)
    assert "| theirs | 33.0 (30.0..37.0) | 3.00 (3.00..3.00) | 1.5e-07 |  |" in page
    assert "| reader | 8.0 (5.0..12.0) |  | 1.5e-07 |  |" in page, "another question"


def test_only_the_part_between_the_marks_changes_and_twice_changes_nothing(folder: Path) -> None:
    page = update_tables(PAGE, folder)
    assert page.startswith("before\n<!-- from results/contest.json -->\n")
    assert page.endswith("\n<!-- end -->\nafter\n")
    assert "old" not in page
    assert update_tables(page, folder) == page


def test_pictures_are_the_same_bytes_each_time_and_leave_out_unknown_memory(folder: Path) -> None:
    page = update_tables(PAGE, folder)
    files = {path.name: path.read_bytes() for path in (folder / "pictures").iterdir()}
    assert set(files) == {"contest_speed.svg", "contest_memory.svg"}
    assert all(f"(pictures/{name})" in page for name in files)
    assert b"<!-- theirs -->" in files["contest_speed.svg"]
    assert b"<!-- theirs -->" not in files["contest_memory.svg"]
    assert b"<!-- ours -->" in files["contest_memory.svg"]
    update_tables(PAGE, folder)
    assert {path.name: path.read_bytes() for path in (folder / "pictures").iterdir()} == files


def test_what_was_broken_off_or_disturbed_is_said(folder: Path) -> None:
    seen = (SystemSnapshot(0.0, 0.0, busy_s=0.0), SystemSnapshot(10.0, 5.0, busy_s=15.0))
    replace(RECORD, incomplete="Ctrl-C", surroundings=seen).save(folder / "results" / "contest.json")
    page = update_tables(PAGE, folder)
    assert "Meanwhile other processes used 1.0 cores on average." in page
    assert "Incomplete: Ctrl-C." in page


def test_a_record_that_is_not_there_is_not_measured_yet(tmp_path: Path) -> None:
    assert update_tables(PAGE, tmp_path) == PAGE.replace("old", "\nNot measured yet.\n")


def test_the_page_of_the_project_has_all_parts_and_is_up_to_date(tmp_path: Path) -> None:
    page = (HERE / "README.md").read_text(encoding="utf-8")
    assert all(f"<!-- from results/{name}.json -->" in page for name in ("peers", "layers", "sweep", "rates", "gpu"))
    (tmp_path / "results").symlink_to(HERE / "results")
    assert update_tables(page, tmp_path) == page
