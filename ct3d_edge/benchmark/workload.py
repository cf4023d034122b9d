"""The work that is timed: what ``infer`` does with one scan, from its file to its record."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.datasets.phantoms.phantom import make_phantom, save_scan
from ct3d_edge.errors import UsageError
from ct3d_edge.inference.model import DEMO_MODEL_FLAG
from ct3d_edge.inference.predict import predict_scan
from ct3d_edge.inference.prepare import prepare_scan
from ct3d_edge.latency.measure import StageTimer
from ct3d_edge.modelfile.model_file import is_demo_model
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.results.record import ResultRecord, ScanFailure, Timing
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.machine import describe_machine

PACKAGES = ("ct3d-edge", "onnxruntime-gpu", "onnxruntime", "numpy", "isal", "nibabel")

RECORD_STAGE = "record"
"""What a scan takes besides the stages that its record names: the record itself, hashes, the check of the features."""

STAGES = (*(field.name for field in fields(Timing)), RECORD_STAGE)
"""Stages of a scan, in order; together they are all of its time."""

PHANTOM_SEED = 30_000
PHANTOM_SHAPE = (512, 512, 40)


def describe_environment() -> dict[str, Any]:
    """What ``describe_machine`` finds, with the packages that a scan passes through."""
    return describe_machine(PACKAGES)


@contextmanager
def bench_scans(folder: Path | None) -> Iterator[list[Path]]:
    """Yield the scans of a folder, or one phantom of 512 x 512 x 40 that lives as long as the benchmark."""
    if folder:
        yield find_scans([folder])
        return
    with TemporaryDirectory() as temporary:
        path = Path(temporary, "phantom.nii.gz")
        save_scan(make_phantom(PHANTOM_SEED, abnormal=True, shape=PHANTOM_SHAPE), path)
        yield [path]


def prepare_network_input(path: Path, contract: Contract) -> NDArray[np.float32]:
    """Prepare a scan before anything is timed: one without a prediction must not end a long measurement.

    Returns
    -------
    ndarray
        ``(1, *contract.shape)`` float32.

    Raises
    ------
    UsageError
        Naming the scan and why it has no prediction.
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
        self._notes = (DEMO_MODEL_FLAG,) if is_demo_model(runner.model) else ()
        self._checker = QualityChecker(runner.contract)

    def predict(self, number: int, timer: StageTimer) -> ResultRecord:
        """Predict the scan of run ``number``; `STAGES` are laps of ``timer``.

        Raises
        ------
        UsageError
            If the scan has no prediction.
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
