"""Scans judged as they arrive, by a process that is interrupted, killed and started again."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dicom_files
import numpy as np
import pytest
from builders import MakeModel, MakeScan
from numpy.typing import NDArray

from .conftest import Run

ROOT = Path(__file__).parents[2]
MAIN = "from ct3d_edge.cli.app import main; main()"

Start = Callable[[], subprocess.Popen[str]]
StartWith = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    folder = tmp_path / "incoming"
    folder.mkdir()
    return folder


@pytest.fixture
def start(incoming: Path, make_model: MakeModel, out: Path) -> Iterator[StartWith]:
    """Start a watcher that is ended with the test."""
    watchers: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", MAIN, "watch", str(incoming), "--out", str(out), "-m", str(make_model())]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        watcher = subprocess.Popen(
            [*command, "-p", "cpu", "--poll-interval", "0.05", "--stable-for", "0.2", *options],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        watchers.append(watcher)
        return watcher

    yield begin
    for watcher in watchers:
        watcher.kill()
        watcher.communicate()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def records(out: Path, count: int) -> list[dict[str, Any]]:
    """Wait for that many records; a torn line is none."""
    deadline = time.monotonic() + 60
    lines: list[str] = []
    while len(lines) < count:
        assert time.monotonic() < deadline, f"{count} records"
        time.sleep(0.02)
        text = out.read_text() if out.exists() else ""
        lines = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [json.loads(line) for line in lines]


def names(found: list[dict[str, Any]]) -> list[str]:
    return [Path(record["scan"]).name for record in found]


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_arrivals_are_judged_and_a_restart_repeats_nothing(
    start: Start, incoming: Path, make_scan: MakeScan, out: Path, end: signal.Signals
) -> None:
    make_scan("before.nii", folder=incoming)
    watcher = start()
    assert names(records(out, 1)) == ["before.nii"]
    part = make_scan("arriving.nii", folder=incoming.parent / "elsewhere").rename(incoming / "arriving.nii.part")
    (incoming / "broken.nii.gz").write_bytes(b"no scan")
    assert names(records(out, 2)) == ["before.nii", "broken.nii.gz"]
    part.rename(incoming / "arriving.nii")
    assert names(records(out, 3))[2] == "arriving.nii"
    watcher.send_signal(end)
    _, said = watcher.communicate(timeout=60)
    if end == signal.SIGKILL:
        with out.open("a") as torn:
            torn.write('{"schema": 1, "scan": "torn')
    else:
        assert watcher.returncode == 0
        assert "stopped: 3 records" in said
        assert "broken.nii.gz: error not_nifti" in said

    again = start()
    make_scan("after.nii", folder=incoming)
    found = records(out, 4)
    assert names(found) == ["before.nii", "broken.nii.gz", "arriving.nii", "after.nii"]
    assert [record["status"] for record in found] == ["ok", "error", "warn", "warn"], "all are the same"
    (incoming / "before.nii").write_bytes((incoming / "after.nii").read_bytes()[:-10])
    assert [record["status"] for record in records(out, 5)][4] == "error"
    again.send_signal(signal.SIGINT)
    assert "stopped: 5 records" in again.communicate(timeout=60)[1]


@pytest.mark.slow
def test_a_second_watcher_and_a_run_are_refused(
    start: Start, run: Run, incoming: Path, make_scan: MakeScan, make_model: MakeModel, out: Path
) -> None:
    scan = make_scan(folder=incoming)
    start()
    records(out, 1)
    for command in (("watch", incoming), ("infer", scan), ("infer", scan, "--resume")):
        outcome = run(*command, "--model", make_model(), "-p", "cpu", "--out", out)
        assert outcome.code == 2
        assert "Another run (process " in outcome.err
    assert len(records(out, 1)) == 1


@pytest.mark.slow
def test_a_folder_that_goes_away_and_comes_back(start: Start, incoming: Path, make_scan: MakeScan, out: Path) -> None:
    make_scan("a.nii", folder=incoming)
    watcher = start()
    records(out, 1)
    assert watcher.stderr is not None
    away = incoming.rename(incoming.with_name("away"))
    while "Waiting for it" not in watcher.stderr.readline():
        assert watcher.poll() is None
    make_scan("b.nii", folder=away)
    away.rename(incoming)
    assert names(records(out, 2)) == ["a.nii", "b.nii"]
    watcher.send_signal(signal.SIGINT)
    assert "can be searched again" in watcher.communicate(timeout=60)[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--out", "r.jsonl"], "There is no folder nowhere"),
        ([".", "--out", "r.csv"], "must end in .jsonl"),
        ([".", "--out", "no/such/r.jsonl"], "Cannot write no/such/r.jsonl"),
        ([".", "--out", "r.jsonl", "--max-memory", "much"], "500MB or 2GB"),
        (["."], "--out"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], message: str) -> None:
    outcome = run("watch", *arguments)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.replace("│", " ").split())


def test_a_file_of_something_else_is_left_alone(run: Run, incoming: Path, out: Path) -> None:
    out.write_text("precious\n")
    outcome = run("watch", incoming, "--out", out)
    assert outcome.code == 2
    assert "Line 1 of" in outcome.err
    assert out.read_text() == "precious\n"


def test_options_of_the_provider_reach_the_session(
    run: Run, incoming: Path, out: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ct3d_edge.cli.watch._watch_loop", stopped)
    command = ("watch", incoming, "--out", out, "-m", make_model(), "-p", "cpu")
    assert ", 1 thread\n" in run(*command, "--provider-option", "intra_op_num_threads=1").err
    assert run(*command, "--provider-option", "use_tf32=1").code == 2
    assert run(*command, "--device-id", 0).code == 2


@pytest.mark.slow
def test_a_watched_folder_gets_what_infer_writes(
    start: StartWith, incoming: Path, hu: NDArray[np.int16], out: Path, tmp_path: Path
) -> None:
    made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")
    pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
    reports = tmp_path / "reports"
    watcher = start("--dicom-sr", str(reports), "--include-phi")
    made.write_series(incoming / "monday" / "chest", hu, "1.2.3")
    made.write_series(incoming / "tuesday" / "chest", (hu + 5).astype(np.int16), "1.2.4")
    assert [record["status"] for record in records(out, 2)] == ["ok", "ok"]
    first = {path.name: path.stat().st_ino for path in reports.iterdir()}
    assert len(first) == 2, "two series of one name"
    assert all(re.fullmatch(r"chest-[0-9a-f]{8}_sr\.dcm", name) for name in first)
    watcher.kill()
    watcher.communicate(timeout=60)
    missing = sorted(first)[0]
    (reports / missing).unlink()
    start("--dicom-sr", str(reports), "--include-phi")
    wait_for((reports / missing).exists)
    kept = {name: inode for name, inode in first.items() if name != missing}
    assert all((reports / name).stat().st_ino == inode for name, inode in kept.items())
    assert len(records(out, 2)) == 2


def test_outputs_among_the_arriving_scans_are_refused(
    run: Run, incoming: Path, make_model: MakeModel, out: Path
) -> None:
    outcome = run(
        "watch", incoming, "--out", out, "-m", make_model(), "--dicom-sr", incoming / "reports", "--include-phi"
    )
    assert outcome.code == 2
    assert "Outputs must not lie among the scans that arrive" in outcome.err


@pytest.mark.slow
def test_flags_of_the_search_are_in_the_records(
    start: StartWith, incoming: Path, hu: NDArray[np.int16], out: Path
) -> None:
    """Two patients with one SeriesInstanceUID, in folders of their own."""
    for number in (1, 2):
        datasets = dicom_files.series_datasets(hu)
        for dataset in datasets:
            dataset.PatientID = str(number)
        dicom_files.write_datasets(incoming / f"patient_{number}", datasets)
    start()
    for record in records(out, 2):
        assert "series_split" in {flag["code"] for flag in record["flags"]}, record
