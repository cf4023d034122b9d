"""Processes that work in order, and end with the program that started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ct3d_edge.errors import WorkerError
from ct3d_edge.system.process_pool import map_in_processes

SLEEPER = """
import os, sys, time
from pathlib import Path
from ct3d_edge.system.process_pool import map_in_processes

def work(number):
    Path(sys.argv[1], f"{number}-{os.getpid()}").touch()
    time.sleep(120)

if __name__ == "__main__":
    list(map_in_processes(work, [0, 1], 2))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(workers: int) -> None:
    assert list(map_in_processes(abs, [-3, 1, -2], workers)) == [3, 1, 2]


@pytest.mark.parametrize("workers", [1, 2])
def test_no_jobs_need_no_process(workers: int) -> None:
    assert list(map_in_processes(abs, [], workers)) == []


def test_one_job_runs_here_unless_a_fresh_process_is_asked_for() -> None:
    assert list(map_in_processes(_process_of, [0], 4)) == [os.getpid()]
    assert list(map_in_processes(_process_of, [0], 1, afresh=True)) != [os.getpid()]
    assert list(map_in_processes(_process_of, [], 1, afresh=True)) == []


def _process_of(_: int) -> int:
    return os.getpid()


def test_errors_of_the_work_reach_the_caller() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(map_in_processes(int, ["1", "one"], 2))


def test_a_process_that_dies_is_a_sentence() -> None:
    with pytest.raises(WorkerError, match="A worker process ended early"):
        list(map_in_processes(os._exit, [1, 1], 2))


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="needs /proc to see the processes")
def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script, notes = tmp_path / "sleeper.py", tmp_path / "notes"
    script.write_text(SLEEPER)
    notes.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    parent = subprocess.Popen([sys.executable, str(script), str(notes)], env=environment)
    deadline = time.monotonic() + 60
    while len(list(notes.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(note.name.partition("-")[2]) for note in notes.iterdir()]
    assert [_alive(pid) for pid in workers] == [True, True]
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if _alive(pid)]


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has asked about yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
