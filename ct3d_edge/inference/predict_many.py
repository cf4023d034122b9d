"""Predict many scans in one session, in parallel or in batches; results come in order and failures stay isolated."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

from ct3d_edge.inference.predict import NO_RECORDS, ScanResult, flag_duplicate, load_known_record, predict_batch
from ct3d_edge.inference.prepare import IN_MEMORY_NAME, PreparedScan, ScanSource, classify_failure, prepare_source
from ct3d_edge.inference.schedule import Schedule
from ct3d_edge.inference.worker_pool import OrderedThreadPool, timeout_error
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.results.record import ResultRecord, Timing
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.session.runner import Runner


def predict_scans(
    scans: Iterable[ScanSource],
    runner: Runner,
    schedule: Schedule | None = None,
    *,
    model_flags: tuple[QCFlag, ...] = (),
    known_records: Mapping[str, ResultRecord] = NO_RECORDS,
    timeout_s: float | None = None,
    checker: QualityChecker | None = None,
) -> Generator[ScanResult, None, None]:
    """Run scans through an open session; the results come in the order of the scans, whatever the schedule.

    Parameters
    ----------
    schedule
        How many scans run in parallel; one after the other if None.
    model_flags
        Flags that hold for every prediction of this session.
    known_records
        Path of a scan to its record of an earlier run, which is returned if it is still valid; see `load_known_record`.
    timeout_s
        Time limit of a scan, in seconds, for reading and preprocessing, and for the network where the workers run it. A
        scan that exceeds it has the failure ``timeout``.
    checker
        Checks the scans; the model runs only on those that pass.

    Raises
    ------
    ProviderError
        If the session fails.
    """
    steps = _ScanPipeline(runner, model_flags, known_records, timeout_s, checker)
    if timeout_s is None and (schedule is None or not schedule.workers):
        for scan in scans:
            prepared = steps.prepare(scan)
            result = (
                prepared
                if isinstance(prepared, ScanResult)
                else predict_batch([prepared], runner, model_flags, checker)[0]
            )
            yield flag_duplicate(result, checker)
        return
    for result in _iter_results(steps, scans, schedule or SEQUENTIAL_SCHEDULE, timeout_s):
        yield flag_duplicate(result, checker)


SEQUENTIAL_SCHEDULE = Schedule(workers=0, predict_in_workers=False, threads=1, prefetch=0, batch=1)


def _iter_results(
    steps: "_ScanPipeline", scans: Iterable[ScanSource], schedule: Schedule, timeout_s: float | None
) -> Generator[ScanResult, None, None]:
    """Results of worker threads, which predict scans or prepare them for batches in this thread."""
    workers, prefetch = max(schedule.workers, 1), schedule.prefetch
    if schedule.predict_in_workers:
        pool = OrderedThreadPool(
            steps.predict, steps.timed_out_result, workers=workers, prefetch=prefetch, timeout_s=timeout_s
        )
        with closing(pool.results(scans)) as results:
            yield from results
        return
    readers = OrderedThreadPool(
        steps.prepare, steps.timed_out_scan, workers=workers, prefetch=prefetch, timeout_s=timeout_s
    )
    with closing(readers.results(scans)) as prepared:
        while batch := list(islice(prepared, schedule.batch)):
            yield from steps.predict_batch(batch)


class _ScanPipeline:
    """The steps from a scan to its result."""

    def __init__(
        self,
        runner: Runner,
        model_flags: tuple[QCFlag, ...],
        known_records: Mapping[str, ResultRecord],
        timeout_s: float | None,
        checker: QualityChecker | None,
    ) -> None:
        self._runner, self._model_flags, self._known_records, self._timeout_s = (
            runner,
            model_flags,
            known_records,
            timeout_s,
        )
        self._checker = checker

    def prepare(
        self, scan: ScanSource, check_cancelled: Callable[[], None] = no_cancellation
    ) -> PreparedScan | ScanResult:
        """Read and preprocess a scan, or return its known record."""
        record = load_known_record(scan, self._known_records, self._runner, self._checker, check_cancelled)
        if record:
            return ScanResult(record, None)
        return prepare_source(scan, self._runner.contract, check_cancelled, self._checker)

    def predict_batch(self, prepared: list[PreparedScan | ScanResult]) -> Iterator[ScanResult]:
        """Run the network on the scans without a known record, as one batch."""
        new = [each for each in prepared if isinstance(each, PreparedScan)]
        results = iter(predict_batch(new, self._runner, self._model_flags, self._checker))
        for each in prepared:
            yield next(results) if isinstance(each, PreparedScan) else each

    def predict(self, scan: ScanSource, check_cancelled: Callable[[], None]) -> ScanResult:
        """`prepare` and `predict_batch` for one scan."""
        return next(self.predict_batch([self.prepare(scan, check_cancelled)]))

    def timed_out_scan(self, scan: ScanSource) -> PreparedScan:
        """A scan with the failure ``timeout``, for one whose thread hangs."""
        failed = classify_failure(timeout_error(scan, self._timeout_s))
        name = str(scan) if isinstance(scan, Path) else IN_MEMORY_NAME
        return PreparedScan(name, None, None, failed, (), Timing())

    def timed_out_result(self, scan: ScanSource) -> ScanResult:
        """The result of `timed_out_scan`."""
        return next(self.predict_batch([self.timed_out_scan(scan)]))
