"""Workload of a benchmark: one scan as `infer` predicts it, and its memory, CPU time and energy."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import make_phantom, save_scan
from ct3d_edge.errors import UsageError
from ct3d_edge.inference.predict import find_model_flags, predict_scan
from ct3d_edge.inference.prepare import prepare_scan
from ct3d_edge.latency.measure import StageTimer, WallClock
from ct3d_edge.latency.system_monitor import GpuReading, read_energy, read_gpus, read_peak_bytes, read_resident_bytes
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.results.record import ResultRecord, ScanFailure, Timing
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.machine import describe_machine
from ct3d_edge.system.process_pool import map_in_processes

PACKAGES = ("ct3d-edge", "onnxruntime-gpu", "onnxruntime", "numpy", "isal", "nibabel")

RECORD_STAGE = "record"
"""Time of a scan outside the stages of its record: making the record, hashes, the check of the features."""

STAGES = (*(field.name for field in fields(Timing)), RECORD_STAGE)
"""Stages of a scan, in order; they add up to its total time."""

PHANTOM_SEED = 30_000
PHANTOM_SHAPE = (512, 512, 40)

AVERAGED_SCANS = 5
"""Number of scans that an average is computed from."""

RESIDENT_BEFORE = "resident before the model, bytes"
ADDED_BY_SESSION = "added by the session, bytes"
ADDED_BY_FIRST_SCAN = "added by the first scan, bytes"
PEAK_RESIDENT = "peak resident, bytes"
CPU_SECONDS = "CPU seconds a scan"
CPU_ENERGY = "energy of the CPU packages, J a scan"
GPU_SESSION = "GPU memory added by the session, bytes"
GPU_FIRST = "GPU memory added by the first scan, bytes"
GPU_ENERGY = "energy of the GPUs, J a scan"


def describe_environment() -> dict[str, Any]:
    """The machine, and the versions of the packages that process a scan."""
    return describe_machine(PACKAGES)


@contextmanager
def bench_scans(folder: Path | None) -> Iterator[list[Path]]:
    """Yield the scans of a folder, or a temporary phantom of 512 x 512 x 40."""
    if folder:
        yield find_scans([folder])
        return
    with TemporaryDirectory() as temporary:
        path = Path(temporary, "phantom.nii.gz")
        save_scan(make_phantom(PHANTOM_SEED, abnormal=True, shape=PHANTOM_SHAPE), path)
        yield [path]


def prepare_network_input(path: Path, contract: Contract) -> NDArray[np.float32]:
    """Prepare a scan before the measurement: one that cannot be predicted must not end it.

    Returns
    -------
    ndarray
        ``(1, *contract.shape)`` float32.

    Raises
    ------
    UsageError
        The scan cannot be predicted.
    """
    scan = prepare_scan(path, contract, checker=QualityChecker(contract))
    if scan.model_input is None:
        raise _unusable(path, scan.failed[1] if scan.failed else None)
    return scan.model_input.volume[None]


class ScanWorkload:
    """Predicts scans one after the other, with the quality checks and the record of ``infer``.

    Parameters
    ----------
    runner
        An open session.
    scans
        Run n takes scan n modulo their number.
    """

    def __init__(self, runner: Runner, scans: Sequence[Path]) -> None:
        self._runner, self._scans = runner, scans
        self._notes = find_model_flags(runner.model)
        self._checker = QualityChecker(runner.contract)

    def predict(self, number: int, timer: StageTimer) -> ResultRecord:
        """Predict the scan of run ``number``; the laps of ``timer`` are `STAGES`.

        Raises
        ------
        UsageError
            The scan cannot be predicted.
        """
        path = self._scans[number % len(self._scans)]
        record = predict_scan(path, self._runner, self._notes, self._checker).record
        timer.lap(RECORD_STAGE, {stage: ms for stage, ms in asdict(record.timing).items() if ms is not None})
        if record.prediction is None:
            raise _unusable(path, record.failure)
        return record


def _unusable(path: Path, failure: ScanFailure | None) -> UsageError:
    code, message = (failure.code, failure.message) if failure else ("internal", "it gave no network input.")
    return UsageError(f"The benchmark cannot use {path} ({code}): {message}")


@dataclass(frozen=True)
class ResourceJob:
    """Work of the new process.

    Parameters
    ----------
    open_runner
        Opens the session; must be picklable.
    scan
        A scan that it can predict.
    """

    open_runner: Callable[[], Runner]
    scan: Path


def measure_resources(job: ResourceJob) -> dict[str, float | None]:
    """Memory, CPU time and energy of predicting scans; None for what this system does not report.

    Energy is that of whole CPU packages and GPUs, other processes included, measured in a separate pass. GPU memory is
    the increase over all GPUs; it is left out where the CPU does the work.
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
    """Memory and energy of GPUs.

    Parameters
    ----------
    memory
        Readings before the session, with it open, and after the first scan.
    energy
        Readings before and after `AVERAGED_SCANS` scans.
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
