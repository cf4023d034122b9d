"""The comparison of two checkouts, of this one with itself and with one that is 0.3 s slower."""

import shutil
from pathlib import Path

import pytest
from builders import MakeScan

from bench.against import PROCESSES, ROOT, measure, report
from ct3d_edge.latency.measure import WallClock
from ct3d_edge.latency.system_monitor import SystemMonitor

SLOW = """
import time
fast = preprocess
def preprocess(*arguments):
    time.sleep(0.3)
    return fast(*arguments)
"""


@pytest.mark.slow
def test_two_checkouts_are_timed_in_turn(
    tmp_path: Path, make_scan: MakeScan, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "ct3d_edge", tmp_path / "ct3d_edge", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "ct3d_edge" / "preprocessing.py").open("a") as stream:
        stream.write(SLOW)
    bad = tmp_path / "bad.nii"
    bad.write_bytes(b"no scan")
    scans = {"good": make_scan(), "bad": bad}
    warmup, counted, known = measure({"this": ROOT, "other": tmp_path}, scans, SystemMonitor(WallClock()), 3)
    assert {name: len(taken) for name, taken in counted.items()} == {
        f"{name}, good": 3 * PROCESSES for name in ("this", "other")
    }
    assert set(warmup) == set(counted)
    assert known["good"] == "the same network input"
    assert known["bad"].startswith("left out: UnreadableScanError: ")
    assert min(counted["other, good"]) > 300
    report(counted, known)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["good", "bad", "all scans"]
