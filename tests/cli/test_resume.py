"""A run that was killed goes on, and ends with the records of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import MakeModel, MakeScan, endless_scan
from numpy.typing import NDArray

from .conftest import Run

ROOT = Path(__file__).parents[2]
MAIN = "from ct3d_edge.cli.app import main; main()"

Records = list[dict[str, Any]]


def records_of(path: Path) -> Records:
    """Records of a file without their times, which no second run repeats; a torn last line is left out."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    records = [json.loads(line) for line in lines if line.endswith(b"\n")]
    for record in records:
        del record["timing_ms"]
    return records


def names_of(records: Records) -> set[str]:
    """The scans of the records. A scan that was broken is tried again, and then has two in the journal."""
    return {record["scan"] for record in records}


def without_duplicate(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the flag that depends on which scans came before, and with the status that is left."""
    flags = [flag for flag in record["flags"] if flag["code"] != "duplicate"]
    status = "ok" if record["status"] == "warn" and not flags else record["status"]
    return {**record, "flags": flags, "status": status}


@pytest.fixture
def scans(tmp_path: Path, make_scan: MakeScan, hu: NDArray[np.int16]) -> Path:
    """Forty scans: two of one content, and every eighth broken."""
    folder = tmp_path / "scans"
    for number in range(40):
        scan = make_scan(f"s{number:02}.nii.gz", voxels=hu + np.int16(number // 2 * 5), folder=folder)
        if number % 8 == 3:
            scan.write_bytes(scan.read_bytes()[: number * 20])
    return folder


@pytest.fixture
def infer(run: Run, scans: Path, make_model: MakeModel, tmp_path: Path) -> Any:
    """``infer("results.jsonl", *options)`` over the forty scans."""

    def call(name: str, *options: object) -> Any:
        return run("infer", scans, "--model", make_model(), "-p", "cpu", "--out", tmp_path / name, *options)

    return call


@pytest.mark.slow
def test_killed_at_25_random_moments_it_ends_with_the_records_of_an_unbroken_run(
    infer: Any, scans: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    infer("unbroken.jsonl")
    expected = records_of(tmp_path / "unbroken.jsonl")
    out, journal = tmp_path / "results.jsonl", tmp_path / "results.jsonl.journal"
    command = [sys.executable, "-c", MAIN, "infer", str(scans), "--model", str(make_model()), "-p", "cpu"]
    moments = np.random.default_rng(5)
    kills = killed_with_records = finished = 0
    while kills < 25:
        before = records_of(journal)
        process = started(command, out)
        wait_for(journal, process, len(before) + int(moments.integers(0, 8)))
        time.sleep(0.03 * moments.random())
        process.kill()
        ended = process.wait()
        kills += ended == -signal.SIGKILL
        kept = records_of(journal) or records_of(out)
        known = {record["scan"]: without_duplicate(record) for record in expected}
        for record in kept:
            assert without_duplicate(record) == known[record["scan"]]
        assert names_of(before) <= names_of(kept), "no record is lost"
        killed_with_records += ended == -signal.SIGKILL and names_of(before) < names_of(kept) < set(known)
        if out.exists():
            assert records_of(out) == expected, "a file of this name is complete"
            finished += 1
            for path in (out, journal):
                path.unlink(missing_ok=True)
    assert killed_with_records > 3, "some were hit at work"
    assert infer("results.jsonl", "--resume").code == 1
    assert records_of(out) == expected
    assert not journal.exists()


def started(command: list[str], out: Path) -> subprocess.Popen[bytes]:
    """The command line in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    quiet = subprocess.DEVNULL
    return subprocess.Popen([*command, "--out", str(out), "--resume"], env=environment, stdout=quiet, stderr=quiet)


def wait_for(journal: Path, process: subprocess.Popen[Any], records: int = 0) -> None:
    """Wait until the journal is there with so many records, or the process has ended before that was seen."""
    deadline = time.monotonic() + 60
    while (not journal.exists() or len(records_of(journal)) < records) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("name", ["results.jsonl", "results.csv"])
def test_resuming_from_any_record_gives_the_same(infer: Any, tmp_path: Path, name: str) -> None:
    infer("unbroken.jsonl")
    whole = (tmp_path / "unbroken.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    journal = tmp_path / f"{name}.journal"
    for done, torn in ((0, 0), (1, 9), (17, 100), (39, 50), (40, 0)):
        rest = b"".join(lines[done:])[:torn]
        journal.write_bytes(b"".join(lines[:done]) + rest)
        outcome = infer(name, "--resume", "--format", "jsonl")
        assert outcome.code == 1
        assert not journal.exists()
        assert outcome.out.encode().startswith(b"".join(lines[:done])), "taken over as they were"
        assert without_times(outcome.out) == without_times(whole.decode())
        if name.endswith(".jsonl"):
            assert (tmp_path / name).read_text() == outcome.out


def without_times(text: str) -> Records:
    return [{**json.loads(line), "timing_ms": None} for line in text.splitlines()]


@pytest.fixture
def half_done(infer: Any, tmp_path: Path) -> list[str]:
    """A journal of the first twenty scans; its lines."""
    infer("whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)[:20]
    (tmp_path / "results.jsonl.journal").write_text("".join(lines))
    return lines


def test_a_changed_scan_is_done_again(
    infer: Any, half_done: list[str], scans: Path, make_scan: MakeScan, tmp_path: Path
) -> None:
    make_scan("s04.nii.gz", voxels=np.full((6, 6, 6), 300, np.int16), folder=scans)
    (scans / "s05.nii.gz").unlink()
    (scans / "s06.nii.gz").rename(scans / "s06b.nii.gz")
    infer("results.jsonl", "--resume")
    infer("again.jsonl")
    assert records_of(tmp_path / "results.jsonl") == records_of(tmp_path / "again.jsonl")
    lines = (tmp_path / "results.jsonl").read_text().splitlines(keepends=True)
    same = [line in half_done for line in lines[:20]]
    assert same == [number not in (4, 5, 6, 19) for number in range(20)], (
        "s07 is the same as s06b, the others were not run again"
    )


def test_another_model_does_all_again(
    infer: Any, half_done: list[str], run: Run, scans: Path, make_model: MakeModel, tmp_path: Path
) -> None:
    other = make_model("other.onnx", threshold=0.75)
    out = tmp_path / "results.jsonl"
    run("infer", scans, "--model", other, "-p", "cpu", "--out", out, "--resume")
    lines = out.read_text().splitlines(keepends=True)
    assert len(lines) == 40
    assert not set(lines) & set(half_done)
    assert {json.loads(line)["threshold"] for line in lines} == {0.75, None}


def test_a_finished_file_is_not_computed_again(infer: Any, tmp_path: Path) -> None:
    infer("results.jsonl")
    before = (tmp_path / "results.jsonl").read_bytes()
    assert infer("results.jsonl", "--resume").code == 1
    assert (tmp_path / "results.jsonl").read_bytes() == before


def test_resume_needs_the_file(run: Run, scans: Path) -> None:
    outcome = run("infer", scans, "--resume")
    assert outcome.code == 2
    assert "--resume goes on with the run that wrote --out FILE" in outcome.err


@pytest.mark.slow
def test_ctrl_c_drops_what_is_in_flight_and_says_what_is_left(
    run: Run, make_scan: MakeScan, make_model: MakeModel, tmp_path: Path
) -> None:
    scans, out, journal = tmp_path / "few", tmp_path / "results.jsonl", tmp_path / "results.jsonl.journal"
    make_scan("a.nii", folder=scans)
    endless = endless_scan(scans)
    make_scan("z.nii", folder=scans)
    command = [sys.executable, "-c", MAIN, "infer", str(scans), "-m", str(make_model()), "-p", "cpu", "-o", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for(journal, process)
    while not records_of(journal):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "1 scan (1 ok)" in said
    assert "2 not reached" in said
    assert f"{journal} holds 1 record; go on with --resume" in said
    endless.unlink()
    assert run(*command[3:], "--resume").code == 0
    assert [Path(record["scan"]).name for record in records_of(out)] == ["a.nii", "z.nii"]
