"""Predicts complete series side by side; each gets one record, and its report goes to the outbox."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from ct3d_edge.errors import Ct3dError, OutputError, ProviderError, ScanError
from ct3d_edge.inference.model import Model
from ct3d_edge.node.arrival import Arrival
from ct3d_edge.node.maps import MapWriter
from ct3d_edge.node.outbox import Outbox
from ct3d_edge.node.scan_predictor import ScanPredictor, StopRequested
from ct3d_edge.node.spool import Spool
from ct3d_edge.results.journal import ResultsJournal
from ct3d_edge.results.record import ResultRecord, ScanFailure
from ct3d_edge.scan.qc_flag import QCFlag

LOGGER = logging.getLogger(__name__)

RETRY_DELAY_S = 10.0
"""Seconds before a series is tried again after an error that is not the series' own: a full disk, a lost GPU."""

MAX_ATTEMPTS = 5
"""Predictions of a series that may end with the node, or with an error that other series do not have, before it is
given up."""


@dataclass(frozen=True)
class PredictionTask:
    """A complete series.

    Parameters
    ----------
    arrival
        Which.
    refused
        How many of its instances were refused.
    failures
        Predictions that ended with an error that is the series' own.
    """

    arrival: Arrival
    refused: int = 0
    failures: int = 0


class SeriesPredictor:
    """Threads that predict series with one open model.

    Parameters
    ----------
    model, model_name
        Predicts; its name is in the reports.
    spool, journal, outbox
        Where series are, records go, and reports go.
    workers
        Series at the same time.
    timeout_s
        Time limit of a scan; none if None.
    on_report
        Called when something was put into the outbox.
    maps
        Writes what is sent after a report.
    """

    def __init__(
        self,
        model: Model,
        model_name: str,
        spool: Spool,
        journal: ResultsJournal,
        outbox: Outbox,
        *,
        workers: int,
        timeout_s: float | None,
        on_report: Callable[[], None],
        maps: MapWriter,
    ) -> None:
        self._scans, self._model_name = ScanPredictor(model, timeout_s), model_name
        self._spool, self._journal, self._outbox, self._on_report = spool, journal, outbox, on_report
        self._maps = maps
        self._recorded: dict[str, ResultRecord] = {}
        self._unrecorded: dict[str, ResultRecord] = {}
        self._in_progress: set[Arrival] = set()
        self._provider_works = self._closed = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._tasks: queue.SimpleQueue[PredictionTask | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"ct3d-edge series {number}", daemon=True)
            for number in range(workers)
        ]

    def add_earlier_record(self, record: ResultRecord, *, is_done: bool) -> None:
        """Compare later scans with a record of an earlier run; if its series is not done, do not predict it again."""
        self._scans.add_earlier_record(record)
        if not is_done:
            self._recorded[self._spool.name_of(record.scan)] = record

    def start(self) -> None:
        """Begin; what writes reports is imported before the first series waits for it."""
        if self._outbox.destinations:
            import_module("ct3d_edge.report.dicom.document")
        for thread in self._threads:
            thread.start()

    def submit(self, task: PredictionTask) -> None:
        """Have a series predicted."""
        self._tasks.put(task)

    def stop(self, timeout: float) -> None:
        """End after the series that are being predicted, or after some seconds; the next run predicts the others."""
        self._stop.set()
        self._scans.request_stop()
        for _ in self._threads:
            self._tasks.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))
        self._scans.kill()
        with self._lock:
            self._closed = True
        for arrival in tuple(self._in_progress):  # it is the node that ends them
            with suppress(OSError):
                self._end_attempt(arrival)

    def rotate_results(self) -> None:
        """Go on with an empty file of records, and forget the scans of those that are gone with this."""
        with self._lock:
            self._journal.rotate(self._spool.former_results)
        self._spool.forget_former_numbers()
        self._scans.forget_former_scans()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None and not self._stop.is_set():
            try:
                self._finish(task)
                self._provider_works = True
            except StopRequested:
                return
            except ProviderError as error:
                LOGGER.error("%s: %s Tried again in %.0f s.", task.arrival.name, error, RETRY_DELAY_S)
                failures = task.failures + self._provider_works  # an error that every series has is none of this one
                self._provider_works = False
                self._stop.wait(RETRY_DELAY_S)
                self.submit(replace(task, failures=failures))
            except (Ct3dError, OSError) as error:
                LOGGER.error("%s: %s Tried again in %.0f s.", task.arrival.name, error, RETRY_DELAY_S)
                self._retry_later(task)
            except Exception:
                LOGGER.exception("%s: an error of ct3d-edge; tried again", task.arrival.name)
                self._retry_later(replace(task, failures=task.failures + 1))

    def _retry_later(self, task: PredictionTask) -> None:
        timer = threading.Timer(RETRY_DELAY_S, self.submit, [task])
        timer.daemon = True
        timer.start()

    def _finish(self, task: PredictionTask) -> None:
        """Record, report, outbox, mark: each step is repeated if the node ends before the next one."""
        with self._count_attempt(task.arrival) as attempt:
            scans = self._scans.find_scans(self._spool.path(task.arrival), task.arrival.series)
            names = [self._spool.name_of(scan) for scan in scans]
            for number, (name, (scan, refusal)) in enumerate(zip(names, scans.items(), strict=True)):
                report = self._spool.report_path(task.arrival, number)
                if name not in self._recorded:
                    if name not in self._unrecorded:
                        self._unrecorded[name] = self._refuse_or_predict(scan, refusal, task, attempt)
                    self._add_record(name, self._make_report(report, self._unrecorded[name]))
                elif not report.exists():  # else it stays, with its UID, though an upgrade came between
                    self._make_report(report, replace(self._recorded[name], scan=str(scan)))
                if report.exists():
                    self._send([report])
                    if attempt <= MAX_ATTEMPTS:
                        record = replace(self._recorded[name], scan=str(scan))
                        self._send(self._maps.write(record, report.with_suffix("")))
            self._spool.mark_done(task.arrival)
        for name in names:
            del self._recorded[name]
        self._scans.forget(scans)

    @contextmanager
    def _count_attempt(self, arrival: Arrival) -> Iterator[int]:
        """Count an attempt until it ends, whatever its outcome: what stays counted ended the process."""
        attempt = self._spool.count_attempt(arrival)
        self._in_progress.add(arrival)
        try:
            yield attempt
        finally:
            self._end_attempt(arrival)

    def _end_attempt(self, arrival: Arrival) -> None:
        with self._lock:
            if arrival in self._in_progress:
                self._in_progress.remove(arrival)
                self._spool.uncount_attempt(arrival)

    def _send(self, files: Sequence[Path]) -> None:
        for file in files:
            self._outbox.add(file)
        if files:
            self._on_report()

    def _add_record(self, name: str, record: ResultRecord) -> None:
        with self._lock:
            if self._closed:
                raise StopRequested
            self._journal.append(record)
            self._recorded[name] = record  # from here on it is not predicted again
            del self._unrecorded[name]
            self._journal.sync()
        LOGGER.info("%s: %s", name, record.describe())

    def _refuse_or_predict(
        self, scan: Path, refusal: ScanFailure | None, task: PredictionTask, attempt: int
    ) -> ResultRecord:
        if refusal:
            return self._scans.refuse(scan, refusal)
        if attempt > MAX_ATTEMPTS or task.failures >= MAX_ATTEMPTS:
            return self._scans.give_up(scan, MAX_ATTEMPTS)
        if attempt > 1:
            return self._scans.predict_suspect(scan, task.refused)
        return self._scans.predict(scan, task.refused)

    def _make_report(self, path: Path, record: ResultRecord) -> ResultRecord:
        """Write the report of a record with a prediction; the record, with a flag if there can be none.

        Raises
        ------
        OutputError, DiskError
            If the disk fails.
        """
        from ct3d_edge.report.dicom.document import is_same_report, save_structured_report

        if not self._outbox.destinations or not record.has_prediction or is_same_report(path, record, self._model_name):
            return record
        try:
            save_structured_report(record, path, self._model_name)
        except OutputError:
            raise
        except ScanError as error:
            LOGGER.warning("%s: no report: %s", self._spool.name_of(record.scan), error)
            flag = QCFlag("auxiliary_output_failed", "warn", f"There is no report: {error}", "send_to")
            return record.with_flags((*record.flags, flag))
        return record
