"""What runs in each Ray worker process: one open model, and predictions of one scan after the other."""

import hashlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from ct3d_edge.errors import CheckFailedError, ModelError, UsageError
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.inference.model import open_model_bytes
from ct3d_edge.inference.predict_many import SEQUENTIAL_SCHEDULE
from ct3d_edge.inference.resume import WORKER_DIED
from ct3d_edge.results.record import ResultRecord, ScanFailure
from ct3d_edge.session.verify import run_golden_test


@dataclass(frozen=True)
class WorkerTask:
    """What all workers of a run have in common.

    Parameters
    ----------
    name, sha256
        Of the model file; its bytes travel apart, once to each machine.
    config
        Settings of inference.
    inputs
        Files and folders of the run: a machine that does not see them is left out.
    timeout_s
        Time limit of a scan in seconds; no limit if None.
    version
        Of ct3d-edge, which must be the same on all machines.
    """

    name: str
    sha256: str
    config: InferenceConfig
    inputs: tuple[str, ...]
    timeout_s: float | None
    version: str


@dataclass(frozen=True)
class WorkerReady:
    """Answer of a worker whose model is open and verified.

    Parameters
    ----------
    host, pid
        Machine and process.
    failed
        A record of no scan with the failure ``worker_died``, which has everything else of this session.
    """

    host: str
    pid: int
    failed: ResultRecord


class PredictionWorker:
    """The class of the Ray actors."""

    def __init__(self, task: WorkerTask) -> None:
        self._task = task

    def start(self, model: bytes) -> WorkerReady:
        """Open the model and run its golden test.

        Raises
        ------
        Ct3dError
            Why this machine cannot take part.
        """
        _require_same_software(self._task, model)
        _require_visible(self._task.inputs)
        self._model = open_model_bytes(Path(self._task.name), model, self._task.config)
        outcome = run_golden_test(self._model.runner)
        provider = self._model.run_report.actual
        if not outcome.passed:
            raise CheckFailedError(f"the golden test does not pass: {'; '.join(outcome.describe(provider))}")
        failed = self._model.make_failed_result(Path(), WORKER_DIED).record
        return WorkerReady(socket.gethostname(), os.getpid(), failed)

    def predict(self, scan: str, known: ResultRecord | None) -> ResultRecord:
        """Predict one scan; errors of the scan are in the record."""
        (result,) = self._model.iter_results(
            [Path(scan)],
            SEQUENTIAL_SCHEDULE,
            known_records={scan: known} if known else {},
            timeout_s=self._task.timeout_s,
        )
        return result.record


def _require_same_software(task: WorkerTask, model: bytes) -> None:
    here = version("ct3d-edge")
    if here != task.version:
        raise UsageError(f"ct3d-edge {here} is installed there, the run is of {task.version}")
    if hashlib.sha256(model).hexdigest() != task.sha256:
        raise ModelError("the model file arrived damaged")


def _require_visible(inputs: Sequence[str]) -> None:
    missing = [path for path in inputs if not os.path.lexists(path)]
    if missing:
        raise UsageError(f"{missing[0]} is not there; all machines must see the scans under the same paths")


def failed_record(template: ResultRecord, scan: str, failure: ScanFailure | None = None) -> ResultRecord:
    """The record of a scan that no worker finished."""
    return replace(template, scan=scan, failure=failure or template.failure)
