"""The scans of a complete series and their records, also of a series that ended the node before."""

import logging
import threading
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ct3d_edge.errors import Ct3dError
from ct3d_edge.inference.model import Model
from ct3d_edge.inference.predict import flag_duplicate
from ct3d_edge.inference.predict_many import SEQUENTIAL_SCHEDULE
from ct3d_edge.inference.resume import WORKER_DIED, SecondProcess
from ct3d_edge.results.record import ResultRecord, ScanFailure
from ct3d_edge.scan.discovery import find_scans, list_scans
from ct3d_edge.scan.qc_flag import QCFlag

LOGGER = logging.getLogger(__name__)

DERIVED = "derived"
"""Code of a series that is computed from another."""


class StopRequested(Exception):
    """The node stops; what is in progress is left to its next run."""


class ScanPredictor:
    """Predicts scans with one open model; several threads may use it at the same time.

    Parameters
    ----------
    model
        Predicts; it takes the quality flags of the search for scans from here.
    timeout_s
        Time limit of a scan; none if None.
    """

    def __init__(self, model: Model, timeout_s: float | None) -> None:
        self._model, self._timeout_s = model, timeout_s
        self._search_flags: dict[str, Collection[QCFlag]] = {}
        model.search_flags = self._search_flags
        self._checker = model.make_checker()
        self._second_process = SecondProcess(model)
        self._one_suspect = threading.Lock()
        self._stop = threading.Event()

    def add_earlier_record(self, record: ResultRecord) -> None:
        """Compare later scans with the record of an earlier run."""
        if record.input_sha256 is not None:
            self._checker.flag_repeated(record.scan, record.input_sha256)

    def forget_former_scans(self) -> None:
        """Compare later scans with fewer earlier ones; see `QualityChecker.forget_former_scans`."""
        self._checker.forget_former_scans()

    def request_stop(self) -> None:
        """Begin no further prediction in a second process."""
        self._stop.set()

    def kill(self) -> None:
        """End the second process, if there is one."""
        self._second_process.kill()

    def find_scans(self, folder: Path, series: str) -> dict[Path, ScanFailure | None]:
        """The scans of a series: one, or each of its passes; the folder itself if what is in it is no scan.

        With each, why it is refused where a search of folders skips it: a reformat or projection of another series.
        """
        try:
            if find_scans(folder) == [folder]:
                return {folder: None}
        except Ct3dError:
            pass
        try:
            scans, search = find_scans(folder, series), list_scans(folder)
        except Ct3dError:  # the prediction says why
            return {folder: None}
        skipped = {each.path: each for each in search.passed_over if each.code == DERIVED}
        self._search_flags |= search.flags
        failures = [ScanFailure(DERIVED, skipped[scan].reason) if scan in skipped else None for scan in scans]
        return dict(zip(scans if len(scans) > 1 else [folder], failures, strict=True))

    def forget(self, scans: Collection[Path]) -> None:
        """Drop what the search found of scans that have their records."""
        for scan in scans:
            self._search_flags.pop(str(scan), None)

    def predict(self, scan: Path, refused: int) -> ResultRecord:
        """The record of a scan; ``refused`` instances of its series are missing."""
        (result,) = self._model.iter_results(
            [scan], SEQUENTIAL_SCHEDULE, timeout_s=self._timeout_s, checker=self._checker
        )
        return _flag_refused(result.record, refused)

    def refuse(self, scan: Path, failure: ScanFailure) -> ResultRecord:
        """The record of a scan that is not predicted."""
        return replace(self._model.make_failed_result(scan, failure).record, status="refused")

    def give_up(self, scan: Path, attempts: int) -> ResultRecord:
        """The record of a scan of which no prediction was finished."""
        message = f"{attempts} predictions of the series ended with the process, or with an error."
        return self._model.make_failed_result(scan, ScanFailure(WORKER_DIED.code, message)).record

    def predict_suspect(self, scan: Path, refused: int) -> ResultRecord:
        """`predict` for a scan that was in progress when a node ended: in a process that it may end alone.

        Raises
        ------
        StopRequested
            If the node stops before.
        """
        with self._one_suspect:
            if self._stop.is_set():
                raise StopRequested
            LOGGER.info("%s: in progress when the node ended: predicted in a second process", scan.name)
            try:
                result = self._second_process.predict(scan, self._timeout_s)
            finally:
                self._second_process.close()
        died = result.record.failure is not None and result.record.failure.code == WORKER_DIED.code
        if died and self._stop.is_set():  # by the signal that ends the node
            raise StopRequested
        return _flag_refused(flag_duplicate(result, self._checker).record, refused)


def _flag_refused(record: ResultRecord, refused: int) -> ResultRecord:
    """The record with a flag if instances of its series were refused."""
    if not refused:
        return record
    detail = f"{refused} instances of the series were refused and did not come again."
    return record.with_flags((*record.flags, QCFlag("incomplete_series", "warn", detail, refused)))
