"""Runs that are resumed after their process was killed, possibly by one of their scans."""

import logging
import multiprocessing
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path

from ct3d_edge.formatting import plural
from ct3d_edge.inference.model import Model
from ct3d_edge.inference.predict import ScanResult, flag_duplicate
from ct3d_edge.inference.predict_many import SEQUENTIAL_SCHEDULE, Schedule
from ct3d_edge.results.record import ScanFailure
from ct3d_edge.results.results_file import ResultsFile

LOGGER = logging.getLogger(__name__)

WORKER_DIED = ScanFailure("worker_died", "Two processes ended early while they had this scan.")

ATTEMPTS = 2
"""Processes that a scan may end before it is given up."""


def iter_resumed(
    model: Model, scans: Sequence[Path], schedule: Schedule, results: ResultsFile, timeout_s: float | None = None
) -> Generator[ScanResult, None, None]:
    """Results of a run with a results file; records of an earlier run that hold are kept.

    Scans that were in progress when a run was killed come last, in a second process. One that ends two such processes
    has the failure ``worker_died``.
    """
    checker, note = model.make_checker(), results.started.note
    suspects = results.started.earlier.difference(results.known)
    others, last = ([scan for scan in scans if (str(scan) in suspects) is wanted] for wanted in (False, True))
    yield from model.iter_results(
        note(others), schedule, known_records=results.known, timeout_s=timeout_s, checker=checker
    )
    if last:
        LOGGER.info("%s in progress when a run was killed: predicted in a second process", plural(len(last), "scan"))
        with closing(SecondProcess(model)) as process:
            for scan in note(last):
                yield flag_duplicate(process.predict(scan, timeout_s), checker)


class SecondProcess:
    """Predicts scans in another process, which a scan may end without ending this one."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._executor: ProcessPoolExecutor | None = None
        self._killed = False

    def predict(self, scan: Path, timeout_s: float | None = None) -> ScanResult:
        """The result of a scan; with the failure ``worker_died`` if two processes end early."""
        for _ in range(ATTEMPTS):
            spawn = multiprocessing.get_context("spawn")
            self._executor = self._executor or ProcessPoolExecutor(1, spawn, _open, (self._model,))
            try:
                return self._executor.submit(_predict, scan, timeout_s).result()
            except BrokenProcessPool:
                LOGGER.warning("a process ended early while it had %s", scan)
                self.close()
                if self._killed:
                    break
        return self._model.make_failed_result(scan, WORKER_DIED)

    def close(self) -> None:
        """End the process after its scan."""
        if self._executor:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    def kill(self) -> None:
        """End the process now; the scan that is being predicted has the failure ``worker_died``."""
        self._killed, executor = True, self._executor
        if executor and executor._processes:  # no public way before Python 3.14
            for process in tuple(executor._processes.values()):
                process.kill()


_models: list[Model] = []
"""In the second process, the open model."""


def _open(model: Model) -> None:
    _models.append(model)


def _predict(scan: Path, timeout_s: float | None) -> ScanResult:
    (result,) = _models[0].iter_results([scan], SEQUENTIAL_SCHEDULE, timeout_s=timeout_s)
    return result
