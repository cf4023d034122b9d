"""Many scans through a session: read ahead, several at a time, in batches; order and isolation as one by one."""

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
    notes: tuple[QCFlag, ...] = (),
    known: Mapping[str, ResultRecord] = NO_RECORDS,
    seconds: float | None = None,
    checker: QualityChecker | None = None,
) -> Generator[ScanResult, None, None]:
    """Run scans through an open session; the results come in the order of the scans, whatever the schedule.

    Parameters
    ----------
    schedule
        How many are worked on at the same time; one after the other if None.
    notes
        Flags that hold for every prediction of this session.
    known
        Path to a record of an earlier run, taken over if it still holds; see `load_known_record`.
    seconds
        How long a scan may take before it gets the failure ``timeout``: to be read and prepared, and where the
        workers run it through the network themselves, that too.
    checker
        Checks the scans; the model is run only on those that pass.

    Raises
    ------
    ProviderError
        If the session fails.
    """
    steps = _ScanPipeline(runner, notes, known, seconds, checker)
    if seconds is None and (schedule is None or not schedule.workers):
        for scan in scans:
            begun = steps.prepare(scan)
            result = begun if isinstance(begun, ScanResult) else predict_batch([begun], runner, notes, checker)[0]
            yield flag_duplicate(result, checker)
        return
    for result in _iter_results(steps, scans, schedule or SEQUENTIAL_SCHEDULE, seconds):
        yield flag_duplicate(result, checker)


SEQUENTIAL_SCHEDULE = Schedule(workers=0, predict_in_workers=False, threads=1, prefetch=0, batch=1)


def _iter_results(
    steps: "_ScanPipeline", scans: Iterable[ScanSource], schedule: Schedule, seconds: float | None
) -> Generator[ScanResult, None, None]:
    """Results of worker threads, which either run whole scans or prepare them for batches of this thread."""
    workers, ahead = max(schedule.workers, 1), schedule.prefetch
    if schedule.predict_in_workers:
        pool = OrderedThreadPool(steps.predict, steps.timed_out_result, workers=workers, ahead=ahead, seconds=seconds)
        with closing(pool.results(scans)) as results:
            yield from results
        return
    readers = OrderedThreadPool(steps.prepare, steps.timed_out_scan, workers=workers, ahead=ahead, seconds=seconds)
    with closing(readers.results(scans)) as begun:
        while batch := list(islice(begun, schedule.batch)):
            yield from steps.predict_batch(batch)


class _ScanPipeline:
    """What is done to a scan before and in the network."""

    def __init__(
        self,
        runner: Runner,
        notes: tuple[QCFlag, ...],
        known: Mapping[str, ResultRecord],
        seconds: float | None,
        checker: QualityChecker | None,
    ) -> None:
        self._runner, self._notes, self._known_records, self._seconds = runner, notes, known, seconds
        self._checker = checker

    def prepare(self, scan: ScanSource, on_block: Callable[[], None] = no_cancellation) -> PreparedScan | ScanResult:
        """Read and prepare, unless the record is known."""
        record = load_known_record(scan, self._known_records, self._runner, self._checker, on_block)
        if record:
            return ScanResult(record, None)
        return prepare_source(scan, self._runner.contract, on_block, self._checker)

    def predict_batch(self, begun: list[PreparedScan | ScanResult]) -> Iterator[ScanResult]:
        """Run those that are not known through the network, as one batch."""
        prepared = [each for each in begun if isinstance(each, PreparedScan)]
        results = iter(predict_batch(prepared, self._runner, self._notes, self._checker))
        for each in begun:
            yield next(results) if isinstance(each, PreparedScan) else each

    def predict(self, scan: ScanSource, on_block: Callable[[], None]) -> ScanResult:
        """Both steps for one scan."""
        return next(self.predict_batch([self.prepare(scan, on_block)]))

    def timed_out_scan(self, scan: ScanSource) -> PreparedScan:
        """What is left of a scan whose thread hangs."""
        failed = classify_failure(timeout_error(scan, self._seconds))
        name = str(scan) if isinstance(scan, Path) else IN_MEMORY_NAME
        return PreparedScan(name, None, None, failed, (), Timing())

    def timed_out_result(self, scan: ScanSource) -> ScanResult:
        """The same, as a result."""
        return next(self.predict_batch([self.timed_out_scan(scan)]))
