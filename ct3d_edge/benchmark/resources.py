"""What a scan costs besides time, in a process of its own that has done nothing else before."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.benchmark.workload import decide
from ct3d_edge.latency import StageTimer, WallClock, peak_bytes, read_energy, resident_bytes
from ct3d_edge.runtime import Runner
from ct3d_edge.workers import in_processes

SCANS = 5
"""Decided for each figure that is an average."""

BEFORE = "resident before the model, bytes"
SESSION = "added by the session, bytes"
FIRST = "added by the first scan, bytes"
PEAK = "peak resident, bytes"
CPU = "CPU seconds a scan"
ENERGY = "energy of the CPU packages, J a scan"


@dataclass(frozen=True)
class Job:
    """What the fresh process does.

    Parameters
    ----------
    open_runner
        Opens the session; travels to the other process by its name.
    scan
        A file that it can judge.
    """

    open_runner: Callable[[], Runner]
    scan: Path


def measure_resources(job: Job) -> dict[str, float | None]:
    """Memory, CPU time and energy of deciding scans; None for what this system does not tell.

    Energy is that of the whole packages, other processes included, taken in a pass of its own.
    """
    (found,) = in_processes(_spend, [job], 1, afresh=True)
    return found


def _spend(job: Job) -> dict[str, float | None]:
    before = resident_bytes()
    with job.open_runner() as runner:
        opened = resident_bytes()
        _decide(runner, job.scan, 1)
        settled = resident_bytes()
        began = time.process_time()
        _decide(runner, job.scan, SCANS)
        seconds = (time.process_time() - began) / SCANS
        first = read_energy()
        _decide(runner, job.scan, SCANS)
        second = read_energy()
    return {
        BEFORE: before,
        SESSION: _less(opened, before),
        FIRST: _less(settled, opened),
        PEAK: peak_bytes(),
        CPU: seconds,
        ENERGY: first.joules_until(second) / SCANS if first and second else None,
    }


def _decide(runner: Runner, scan: Path, times: int) -> None:
    for _ in range(times):
        decide(runner, scan, StageTimer(WallClock()))


def _less(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before
