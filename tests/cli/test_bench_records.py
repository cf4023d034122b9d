"""Records of `bench` compared, listed and shown."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.system_monitor import SystemSnapshot

from .conftest import Run


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


def test_a_record_is_shown_again_and_written_as_a_page(run: Run, tmp_path: Path) -> None:
    outcome = run("bench", "show", saved(tmp_path / "a.json", 300), "--html", tmp_path / "a.html")
    assert outcome.code == 0
    assert "p99 needs 562 more runs" in outcome.out
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert run("bench", "show", tmp_path / "absent.json").code == 2
