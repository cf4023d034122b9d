"""Processes that build one cache at once, or are killed while they do."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ct3d_edge.splits.prepared_cache import prepare_cache, read_flags
from ct3d_edge.splits.split import SplitEntry

from .test_prepared_cache import CONTRACT, ROOT, files

BUILD = """
import json, sys, time
from pathlib import Path
from ct3d_edge.splits import prepared_cache
from ct3d_edge.splits.prepared_cache import prepare_cache
from ct3d_edge.splits.split import SplitEntry
from ct3d_edge.contract import Contract

seconds, entries = float(sys.argv[2]), json.loads(sys.argv[3])
read = prepared_cache.open_scan
reads = []

def slowly(path):
    time.sleep(seconds)
    reads.append(path)
    return read(path)

prepared_cache.open_scan = slowly
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
prepare_cache(folder, [SplitEntry(*entry) for entry in entries], Contract(shape=(8, 7, 6)), folder / "cache", workers=1)
print(len(reads))
"""


def start(folder: Path, entries: list[SplitEntry], seconds: float) -> subprocess.Popen[str]:
    """A process that builds the cache, and takes its time over each scan; it waits for a line."""
    listed = json.dumps([[entry.path, entry.label, entry.sha256, entry.subset] for entry in entries])
    command = [sys.executable, "-c", BUILD, str(folder), str(seconds), listed]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_may_build_one_cache_at_once(entries: list[SplitEntry], tmp_path: Path) -> None:
    prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "alone")
    builders = [start(tmp_path, entries, 0.05) for _ in range(2)]
    for builder in builders:
        go(builder)
    outputs = [builder.communicate(timeout=60)[0] for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    # Both were at it: neither found the whole cache done.
    assert all(int(output) > 0 for output in outputs)
    assert files(tmp_path / "cache") == files(tmp_path / "alone")


def test_a_killed_build_leaves_only_whole_entries_and_goes_on(
    entries: list[SplitEntry], tmp_path: Path, reads: list[str]
) -> None:
    builder = start(tmp_path, entries, 0.3)
    go(builder)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "cache").glob("*.npy"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(builder.pid, signal.SIGKILL)
    builder.communicate()
    left = list((tmp_path / "cache").glob("*.npy"))
    assert 2 <= len(left) < 6
    assert all(read_flags(path, CONTRACT.shape) is not None for path in left)
    made = prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache")
    assert len(made.entries) == 6
    assert len(reads) == 6 - len(left)
