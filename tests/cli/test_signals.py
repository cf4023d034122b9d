"""Stopped by a service manager, a terminal that closes, or a reader that has seen enough."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from builders import MakeModel, MakeScan, endless_scan

from ct3d_edge.cli.app import signals_as_interrupts

MAIN = "from ct3d_edge.cli.app import main; main()"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="these are signals of POSIX systems")


@pytest.fixture
def long_run(make_scan: MakeScan, make_model: MakeModel, tmp_path: Path) -> list[str]:
    """`infer` of one scan that is read at once and one that takes a minute."""
    make_scan("a.nii", folder=tmp_path / "scans")
    endless_scan(tmp_path / "scans")
    arguments = ["infer", str(tmp_path / "scans"), "-m", str(make_model()), "-p", "cpu", "-f", "jsonl"]
    return [sys.executable, "-c", MAIN, *arguments]


def started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_record_is_printed_at_once_and_a_signal_keeps_what_there_is(
    long_run: list[str], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "r.jsonl"
    process = started([*long_run, "-o", str(out)])
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())  # the other scan is still being read
    assert Path(first["scan"]).name == "a.nii"
    process.send_signal(number)
    rest, said = process.communicate(timeout=60)
    assert (process.returncode, rest) == (code, "")
    assert "Traceback" not in said
    assert f"{out}.journal holds 1 record; go on with --resume" in said


def test_a_reader_that_has_seen_enough_ends_the_run(long_run: list[str]) -> None:
    (Path(long_run[4]) / "b.nii").write_bytes((Path(long_run[4]) / "a.nii").read_bytes())
    (Path(long_run[4]) / "endless.nii").rename(Path(long_run[4]) / "z.nii")
    process = started(long_run)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, said = process.communicate(timeout=60)
    assert process.returncode == 141
    assert "Traceback" not in said


def test_a_table_that_nobody_reads_is_no_missing_result(long_run: list[str]) -> None:
    (Path(long_run[4]) / "endless.nii").unlink()
    process = started([*long_run[:-1], "table"])
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, said = process.communicate(timeout=60)
    assert process.returncode == 141
    assert "Traceback" not in said


def test_one_header_stands_above_all_rows(long_run: list[str]) -> None:
    (Path(long_run[4]) / "endless.nii").unlink()
    (Path(long_run[4]) / "b.nii").touch()
    done = subprocess.run([*long_run[:-1], "csv"], capture_output=True, text=True, check=False)
    header, *rows = done.stdout.splitlines()
    assert header.startswith("scan,")
    assert [Path(row.split(",")[0]).name for row in rows] == ["a.nii", "b.nii"]


def test_an_ignored_signal_stays_ignored_and_handlers_are_put_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    term = signal.getsignal(signal.SIGTERM)
    try:
        with signals_as_interrupts():
            os.kill(os.getpid(), signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is term
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
