"""What runs in each Ray worker process: one open model, and predictions of one scan after the other."""

import hashlib
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from ct3d_edge.cluster.remote_scans import local_copy, parse_url, require_storage
from ct3d_edge.errors import CheckFailedError, ModelError, UnreadableScanError, UsageError
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.inference.model import open_model_bytes
from ct3d_edge.inference.predict import NO_RECORDS
from ct3d_edge.inference.predict_many import SEQUENTIAL_SCHEDULE
from ct3d_edge.inference.resume import WORKER_DIED
from ct3d_edge.results.record import ResultRecord, ScanFailure
from ct3d_edge.scan.qc_flag import QCFlag
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
        Files, folders and URLs of the run: a machine that does not see them is left out.
    folder
        That relative paths start from.
    timeout_s
        Time limit of a scan in seconds; no limit if None.
    search_flags
        Path of a scan to the quality flags that the search gave it.
    version
        Of ct3d-edge, which must be the same on all machines.
    """

    name: str
    sha256: str
    config: InferenceConfig
    inputs: tuple[str, ...]
    folder: str
    timeout_s: float | None
    search_flags: dict[str, Collection[QCFlag]]
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
        _require_visible(self._task)
        self._model = open_model_bytes(Path(self._task.name), model, self._task.config)
        self._model.search_flags = self._task.search_flags
        outcome = run_golden_test(self._model.runner)
        provider = self._model.run_report.actual
        if not outcome.passed:
            raise CheckFailedError(f"the golden test does not pass: {'; '.join(outcome.describe(provider))}")
        failed = self._model.make_failed_result(Path(), WORKER_DIED).record
        return WorkerReady(socket.gethostname(), os.getpid(), failed)

    def predict(self, scan: str, known: ResultRecord | None) -> ResultRecord:
        """Predict one scan, a path or a URL; errors of the scan are in the record."""
        if not parse_url(scan):
            record = self._predict(Path(scan), known)
            if record.failure and record.failure.code == "not_found":
                _require_visible(self._task)  # the scan is gone, or this machine lost its network drive
            return record
        try:
            with local_copy(scan) as copy:
                record = self._predict(copy, known and replace(known, scan=str(copy)))
        except UnreadableScanError as error:
            record = self._model.make_failed_result(Path(), ScanFailure(error.code, str(error))).record
        failure = record.failure and replace(record.failure, message=record.failure.message.replace(record.scan, scan))
        return replace(record, scan=scan, failure=failure)

    def _predict(self, scan: Path, known: ResultRecord | None) -> ResultRecord:
        known_records = {str(scan): known} if known else NO_RECORDS
        (result,) = self._model.iter_results(
            [scan], SEQUENTIAL_SCHEDULE, known_records=known_records, timeout_s=self._task.timeout_s
        )
        return result.record


def _require_same_software(task: WorkerTask, model: bytes) -> None:
    here = version("ct3d-edge")
    if here != task.version:
        raise UsageError(f"ct3d-edge {here} is installed there, the run is of {task.version}")
    if hashlib.sha256(model).hexdigest() != task.sha256:
        raise ModelError("the model file arrived damaged")


def _require_visible(task: WorkerTask) -> None:
    paths = [path for path in task.inputs if not parse_url(path)]
    for url in set(task.inputs).difference(paths):
        require_storage(url)
    for path in paths:
        if not os.path.lexists(Path(task.folder, path)):
            raise UsageError(f"{path} is not there; all machines must see the scans under the same paths")
    if not all(map(os.path.isabs, paths)):
        os.chdir(task.folder)


def failed_record(template: ResultRecord, scan: str, failure: ScanFailure | None = None) -> ResultRecord:
    """The record of a scan that no worker finished."""
    return replace(template, scan=scan, failure=failure or template.failure)
