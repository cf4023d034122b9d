"""What a scan costs besides time, in a process of its own that has done nothing else before."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.benchmark.workload import decide
from ct3d_edge.latency.measure import StageTimer, WallClock
from ct3d_edge.latency.resource_meter import GpuReading, peak_bytes, read_energy, read_gpus, resident_bytes
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.process_pool import in_processes

SCANS = 5
"""Decided for each figure that is an average."""

BEFORE = "resident before the model, bytes"
SESSION = "added by the session, bytes"
FIRST = "added by the first scan, bytes"
PEAK = "peak resident, bytes"
CPU = "CPU seconds a scan"
ENERGY = "energy of the CPU packages, J a scan"
GPU_SESSION = "GPU memory added by the session, bytes"
GPU_FIRST = "GPU memory added by the first scan, bytes"
GPU_ENERGY = "energy of the GPUs, J a scan"


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

    Energy is that of the whole packages and GPUs, other processes included, taken in a pass of its own; memory of GPUs
    is what all of them have more in use than before. Where the CPU does the work, GPUs are left out.
    """
    (found,) = in_processes(_spend, [job], 1, afresh=True)
    return found


def _spend(job: Job) -> dict[str, float | None]:
    before, idle = resident_bytes(), read_gpus()
    with job.open_runner() as runner:
        opened, loaded = resident_bytes(), read_gpus()
        _decide(runner, job.scan, 1)
        settled, warm = resident_bytes(), read_gpus()
        began = time.process_time()
        _decide(runner, job.scan, SCANS)
        seconds = (time.process_time() - began) / SCANS
        first, awake = read_energy(), read_gpus()
        _decide(runner, job.scan, SCANS)
        second, done = read_energy(), read_gpus()
        on_gpu = runner.receipt.actual not in ("cpu", "openvino")
    spent: dict[str, float | None] = {
        BEFORE: before,
        SESSION: _less(opened, before),
        FIRST: _less(settled, opened),
        PEAK: peak_bytes(),
        CPU: seconds,
        ENERGY: first.joules_until(second) / SCANS if first and second else None,
    }
    return spent | gpu_costs((idle, loaded, warm), (awake, done)) if on_gpu else spent


def gpu_costs(
    memory: tuple[GpuReading | None, GpuReading | None, GpuReading | None],
    energy: tuple[GpuReading | None, GpuReading | None],
) -> dict[str, float | None]:
    """What GPUs spent.

    Parameters
    ----------
    memory
        Read before the session, with it open, after the first scan.
    energy
        Read before and after `SCANS` scans.
    """
    idle, loaded, warm = (reading.used_bytes if reading else None for reading in memory)
    awake, done = (reading.joules if reading else None for reading in energy)
    return {
        GPU_SESSION: _less(loaded, idle),
        GPU_FIRST: _less(warm, loaded),
        GPU_ENERGY: None if awake is None or done is None else (done - awake) / SCANS,
    }


def _decide(runner: Runner, scan: Path, times: int) -> None:
    for _ in range(times):
        decide(runner, scan, StageTimer(WallClock()))


def _less(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before
