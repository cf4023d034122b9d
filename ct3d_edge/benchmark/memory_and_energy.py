"""What a scan costs besides time, in a process of its own that has done nothing else before."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.benchmark.workload import ScanWorkload
from ct3d_edge.latency.measure import StageTimer, WallClock
from ct3d_edge.latency.resource_meter import GpuReading, read_energy, read_gpus, read_peak_bytes, read_resident_bytes
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.process_pool import map_in_processes

AVERAGED_SCANS = 5
"""Predicted for each figure that is an average."""

RESIDENT_BEFORE = "resident before the model, bytes"
ADDED_BY_SESSION = "added by the session, bytes"
ADDED_BY_FIRST_SCAN = "added by the first scan, bytes"
PEAK_RESIDENT = "peak resident, bytes"
CPU_SECONDS = "CPU seconds a scan"
CPU_ENERGY = "energy of the CPU packages, J a scan"
GPU_SESSION = "GPU memory added by the session, bytes"
GPU_FIRST = "GPU memory added by the first scan, bytes"
GPU_ENERGY = "energy of the GPUs, J a scan"


@dataclass(frozen=True)
class ResourceJob:
    """What the fresh process does.

    Parameters
    ----------
    open_runner
        Opens the session; travels to the other process by its name.
    scan
        A file that it has a prediction for.
    """

    open_runner: Callable[[], Runner]
    scan: Path


def measure_resources(job: ResourceJob) -> dict[str, float | None]:
    """Memory, CPU time and energy of predicting scans; None for what this system does not report.

    Energy is that of the whole packages and GPUs, other processes included, measured in a pass of its own; memory of
    GPUs is what all of them have more in use than before. Where the CPU does the work, GPUs are left out.
    """
    (found,) = map_in_processes(_measure_in_process, [job], 1, afresh=True)
    return found


def _measure_in_process(job: ResourceJob) -> dict[str, float | None]:
    before, idle = read_resident_bytes(), read_gpus()
    with job.open_runner() as runner:
        workload = ScanWorkload(runner, [job.scan])
        opened, loaded = read_resident_bytes(), read_gpus()
        _run_scans(workload, 1)
        settled, warm = read_resident_bytes(), read_gpus()
        began = time.process_time()
        _run_scans(workload, AVERAGED_SCANS)
        seconds = (time.process_time() - began) / AVERAGED_SCANS
        first, awake = read_energy(), read_gpus()
        _run_scans(workload, AVERAGED_SCANS)
        second, done = read_energy(), read_gpus()
        on_gpu = runner.run_report.actual not in ("cpu", "openvino")
    spent: dict[str, float | None] = {
        RESIDENT_BEFORE: before,
        ADDED_BY_SESSION: _difference(opened, before),
        ADDED_BY_FIRST_SCAN: _difference(settled, opened),
        PEAK_RESIDENT: read_peak_bytes(),
        CPU_SECONDS: seconds,
        CPU_ENERGY: first.joules_to(second) / AVERAGED_SCANS if first and second else None,
    }
    return spent | compute_gpu_costs((idle, loaded, warm), (awake, done)) if on_gpu else spent


def compute_gpu_costs(
    memory: tuple[GpuReading | None, GpuReading | None, GpuReading | None],
    energy: tuple[GpuReading | None, GpuReading | None],
) -> dict[str, float | None]:
    """What GPUs spent.

    Parameters
    ----------
    memory
        Read before the session, with it open, after the first scan.
    energy
        Read before and after `AVERAGED_SCANS` scans.
    """
    idle, loaded, warm = (reading.used_bytes if reading else None for reading in memory)
    awake, done = (reading.joules if reading else None for reading in energy)
    return {
        GPU_SESSION: _difference(loaded, idle),
        GPU_FIRST: _difference(warm, loaded),
        GPU_ENERGY: None if awake is None or done is None else (done - awake) / AVERAGED_SCANS,
    }


def _run_scans(workload: ScanWorkload, times: int) -> None:
    for number in range(times):
        workload.predict(number, StageTimer(WallClock()))


def _difference(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before
