"""One writer at a time, and no lock that outlives its process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.system.file_lock import exclusive_lock

HOLDER = """
import sys, time
from pathlib import Path
from ct3d_edge.system.file_lock import exclusive_lock

with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process that holds the lock on ``results.jsonl``."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "results.jsonl")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_is_refused_and_told_who_is_first(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with holder:
        with pytest.raises(UsageError, match=rf"Another run \(process {holder.pid}\) is writing .*results\.jsonl"):
            exclusive_lock(tmp_path / "results.jsonl").__enter__()
        with exclusive_lock(tmp_path / "other.jsonl"):
            pass
        holder.kill()


def test_a_killed_holder_leaves_a_file_but_no_lock(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with holder:
        os.kill(holder.pid, signal.SIGKILL)
    assert (tmp_path / "results.jsonl.lock").exists()
    with exclusive_lock(tmp_path / "results.jsonl"):
        assert (tmp_path / "results.jsonl.lock").read_text().strip("\0 \n") == str(os.getpid())
    assert list(tmp_path.iterdir()) == []


def test_one_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / "r.jsonl"), pytest.raises(UsageError, match="Another run"):
        exclusive_lock(tmp_path / "r.jsonl").__enter__()
    with exclusive_lock(tmp_path / "r.jsonl"):
        pass


def test_it_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive_lock(tmp_path / "r.jsonl"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot write .*r\.jsonl: No such file or directory"):
        exclusive_lock(tmp_path / "nowhere" / "r.jsonl").__enter__()


def test_a_folder_that_vanishes_while_it_is_held_does_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with exclusive_lock(folder / "r.jsonl"):
        (folder / "r.jsonl.lock").unlink()
        folder.rmdir()
