"""A node: receiver, series, predictor and deliveries put together."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ct3d_edge.errors import Ct3dError
from ct3d_edge.formatting import format_bytes, plural
from ct3d_edge.inference.model import Model
from ct3d_edge.inference.predict_many import Schedule
from ct3d_edge.node.arrival import Arrival, instance_of
from ct3d_edge.node.completion import ArrivingSeries, SeriesTracker
from ct3d_edge.node.config import NodeConfig
from ct3d_edge.node.delivery import Caller, Delivery
from ct3d_edge.node.maps import MapWriter
from ct3d_edge.node.outbox import Outbox
from ct3d_edge.node.predictor import PredictionTask, SeriesPredictor
from ct3d_edge.node.receiver import Receiver
from ct3d_edge.node.spool import Spool, open_spool
from ct3d_edge.results.journal import ResultsJournal, read_journal
from ct3d_edge.scan.dicom.instance_identity import InstanceIdentity
from ct3d_edge.scan.loader import FileStamp
from ct3d_edge.system.tls import make_client_context

LOGGER = logging.getLogger(__name__)

POLL_S = 0.1
"""Seconds between two looks at which series are complete."""

HOUSEKEEPING_S = 60.0
"""Seconds between two looks at the age of series, and at the model file."""

SHUTDOWN_S = 10.0
"""Seconds that predictions and deliveries in progress get at the end."""


class Node:
    """A DICOM node with an open model; made by `open_node`.

    Parameters
    ----------
    config
        Its settings.
    model, model_path
        Predicts the series; its file, whose name the reports give.
    spool, journal
        Where everything is.
    schedule
        How many series are predicted side by side.
    timeout_s
        Time limit of a series.
    """

    def __init__(
        self,
        config: NodeConfig,
        model: Model,
        model_path: Path,
        spool: Spool,
        journal: ResultsJournal,
        schedule: Schedule,
        timeout_s: float | None,
    ) -> None:
        self._config, self._spool = config, spool
        self._model_path, self._model_stamp = model_path, FileStamp.of(model_path)
        self._tracker = SeriesTracker(config.completion, config.limits)
        self._outbox = Outbox(spool.outbox, config.destinations)
        self._receiver = Receiver(config, spool, self._tracker)
        tls = make_client_context(config.tls) if config.tls and config.send_tls else None
        caller = Caller(config.ae_title, config.limits.network_timeout, tls)
        self._deliveries = [Delivery(caller, destination, self._outbox) for destination in config.destinations]
        self._predictor = SeriesPredictor(
            model,
            model_path.stem,
            spool,
            journal,
            self._outbox,
            workers=count_workers(schedule),
            timeout_s=timeout_s,
            on_report=self._notify_deliveries,
            maps=MapWriter(model, model_path.stem, config.maps, timeout_s),
        )
        self._journal = journal
        for path in (spool.former_results, journal.path):
            self._read_records(path)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._receiver.port

    def run(self, stop: threading.Event | None = None) -> None:
        """Receive, predict and send until ``stop`` is set, or until KeyboardInterrupt."""
        stop = stop or threading.Event()
        self._resume()
        self._predictor.start()
        for delivery in self._deliveries:
            delivery.start()
        self._receiver.start()
        try:
            self._loop(stop)
        except KeyboardInterrupt:
            pass
        finally:
            self._receiver.stop()
            self._predictor.stop(SHUTDOWN_S)
            for delivery in self._deliveries:
                delivery.stop(SHUTDOWN_S)

    def _loop(self, stop: threading.Event) -> None:
        next_housekeeping = time.monotonic()
        while not stop.is_set():
            self._tracker.changed.wait(POLL_S)
            self._tracker.changed.clear()
            for series_uid, series, reason in self._tracker.take_complete():
                self._complete(series_uid, series, reason)
            if time.monotonic() >= next_housekeeping:
                self._remove_expired()
                self._limit_results()
                self._check_model_file()
                next_housekeeping = time.monotonic() + HOUSEKEEPING_S

    def _read_records(self, path: Path) -> None:
        """Take the records of earlier runs into account."""
        unfinished = {arrival.name for arrival in self._spool.arrivals() if not self._spool.is_done(arrival)}
        for record in read_journal(path) if path.exists() else ():
            name = self._spool.name_of(record.scan).partition("/")[0]
            if arrival := Arrival.parse(name):
                self._spool.reserve(arrival)
            self._predictor.add_earlier_record(record, is_done=name not in unfinished)

    def _resume(self) -> None:
        """Go on with what an earlier run received."""
        waiting = [arrival for arrival in self._spool.arrivals() if not self._spool.is_done(arrival)]
        for arrival in waiting:
            self._predictor.submit(PredictionTask(arrival))
        received = self._spool.received_series()
        for series_uid, files in received.items():
            for file in files:
                self._tracker.add_instance(InstanceIdentity(series_uid, instance_of(file)), file.stat().st_size)
        if waiting or received:
            LOGGER.info(
                "from an earlier run: %s still arriving, %d to predict",
                plural(len(received), "series", "series"),
                len(waiting),
            )
        for title, count in self._outbox.former_destinations().items():
            LOGGER.warning("%s wait for %s, which is no destination any more", plural(count, "report"), title)

    def _complete(self, series_uid: str, series: ArrivingSeries, reason: str) -> None:
        try:
            arrival = self._spool.complete(series_uid)
        except OSError as error:
            LOGGER.error("%s: cannot be completed: %s", series_uid, error)
            self._tracker.put_back(series_uid, series)
            return
        if arrival is None:
            return
        size = format_bytes(series.size)
        count = plural(len(series.instances), "instance")
        LOGGER.info("%s: complete: %s, %s, %s", arrival.name, count, size, reason)
        self._predictor.submit(PredictionTask(arrival, len(series.refused)))

    def _notify_deliveries(self) -> None:
        for delivery in self._deliveries:
            delivery.notify()

    def _remove_expired(self) -> None:
        """Remove series that were done so long ago that they need not stay."""
        most = 3600 * self._config.retention_hours
        for arrival in self._spool.arrivals():
            try:
                if self._spool.is_done(arrival) and self._spool.age_s(arrival) >= most:
                    self._spool.remove(arrival)
                    LOGGER.debug("%s: removed from the spool", arrival.name)
            except OSError as error:
                LOGGER.error("%s: cannot be removed from the spool: %s", arrival.name, error)

    def _limit_results(self) -> None:
        """Begin a new file of records when the one so far is large enough."""
        if self._journal.size < self._config.limits.max_results_bytes:
            return
        path, former = self._spool.results, self._spool.former_results
        try:
            size = format_bytes(self._journal.size)
            self._predictor.rotate_results()
            LOGGER.info("%s had %s: its records are in %s now, whose former ones are gone", path, size, former.name)
        except Ct3dError as error:
            LOGGER.error("%s goes on to grow: %s", path, error)

    def _check_model_file(self) -> None:
        stamp = FileStamp.of(self._model_path)
        if stamp != self._model_stamp:
            LOGGER.warning("%s was changed; the model that was opened stays until a restart", self._model_path)
        self._model_stamp = stamp


def count_workers(schedule: Schedule) -> int:
    """Series that are predicted at the same time."""
    return max(schedule.workers, 1) if schedule.predict_in_workers else 1


@contextmanager
def open_node(
    config: NodeConfig, model: Model, model_path: Path, schedule: Schedule, timeout_s: float | None = None
) -> Iterator[Node]:
    """A node that listens as soon as it runs; its spool is locked until the end.

    Raises
    ------
    UsageError
        If another node uses the spool, the port is taken, a peer has no address, or a certificate cannot be used.
    OutputError, DiskError
        If the spool cannot be written to.
    """
    with open_spool(config.spool) as spool, ResultsJournal(spool.results) as journal:
        yield Node(config, model, model_path, spool, journal, schedule, timeout_s)
