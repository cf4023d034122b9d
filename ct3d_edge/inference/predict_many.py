"""Predict many scans in one session: how many at a time, in parallel or in batches, and their results in order.

The failure of a scan affects no other scan.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import format_bytes, plural
from ct3d_edge.inference.predict import NO_RECORDS, ScanResult, flag_duplicate, load_known_record, predict_batch
from ct3d_edge.inference.prepare import IN_MEMORY_NAME, PreparedScan, ScanSource, classify_failure, prepare_source
from ct3d_edge.inference.worker_pool import OrderedThreadPool, timeout_error
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.results.record import ResultRecord, Timing
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.machine import count_usable_cores, read_available_memory

MEMORY_FRACTION = 0.5
"""Share of the available memory that the scans of a folder may take by default."""

PREPARATION_MEMORY_FACTOR = 5
"""Memory of a scan in preprocessing over that of its network input: resized planes, samples, reoriented copy."""


@dataclass(frozen=True)
class Schedule:
    """How many scans run in parallel, and where the network runs on them.

    Parameters
    ----------
    workers
        Threads that read and preprocess scans. 0: one scan after the other, in the caller's thread.
    predict_in_workers
        Whether each worker also runs the network on its scan. On a CPU that is faster than dividing each run among the
        cores (bench/README.md); a GPU runs batches from one thread.
    threads
        Threads of the session for one run.
    prefetch
        Scans in progress or waiting for the network at the same time.
    batch
        Scans in one run of the network.
    """

    workers: int
    predict_in_workers: bool
    threads: int
    prefetch: int
    batch: int

    def describe(self) -> str:
        """The schedule in one line."""
        if not self.workers:
            return f"one scan after the other, {plural(self.threads, 'thread')}"
        if self.predict_in_workers:
            return f"{plural(self.workers, 'scan')} at a time, {plural(self.threads, 'thread')} each"
        return f"{self.workers} reading ahead, batches of {self.batch}"


SEQUENTIAL_SCHEDULE = Schedule(workers=0, predict_in_workers=False, threads=1, prefetch=0, batch=1)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one network input and of one run of the network; and whether that memory is the CPU's."""

    input_bytes: int
    run_bytes: int
    on_cpu: bool


def make_schedule(
    estimate: Callable[[], MemoryEstimate],
    scans: int | None = None,
    *,
    workers: int | None = None,
    batch: int = 1,
    max_memory: int | None = None,
) -> Schedule:
    """Choose a schedule within the memory limit.

    Parameters
    ----------
    estimate
        Gives the memory of a scan; called if several scans or a limit make it matter, as it takes 0.2 s.
    scans
        Number of scans; None if unknown.
    workers
        Scans in parallel; from cores and memory if None.
    batch
        Scans in one run of the network.
    max_memory
        Bytes that the scans in progress may take; half of the available memory if None, or more if one scan takes more.

    Raises
    ------
    UsageError
        If workers or batch are below 1, or if the batch, that many workers or a single scan need more than the given
        ``max_memory``.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"At least one worker is needed, found `workers={workers}`.")
    if batch < 1:
        raise UsageError(f"A batch has at least one scan, found `batch_size={batch}`.")
    cores = count_usable_cores()
    sequential = Schedule(0, False, cores, 0, 1)
    if scans == batch == 1 and max_memory is None:
        return sequential
    memory = estimate()
    budget = _default_max_memory() if max_memory is None else max_memory
    _require_batch_fits(memory, batch, budget)
    if max_memory is not None:
        parallel = workers or 1 if memory.on_cpu and batch == 1 and scans != 1 else 1
        _require_within_budget(memory, batch, parallel, max_memory)
    if scans == 1:
        return sequential
    preparation_bytes = PREPARATION_MEMORY_FACTOR * memory.input_bytes
    if memory.on_cpu and batch == 1:
        parallel_scans = workers or max(1, min(cores, scans or cores, budget // (memory.run_bytes + preparation_bytes)))
        if parallel_scans > 1:
            return Schedule(parallel_scans, True, max(1, cores // parallel_scans), 2 * parallel_scans, 1)
    readers = workers or max(1, min(cores - 1, scans or cores))
    fitting = max(1, (budget - _batch_bytes(memory, batch)) // preparation_bytes)
    return Schedule(min(readers, fitting), False, cores, max(1, min(batch + readers, fitting)), batch)


def _default_max_memory() -> int:
    available = read_available_memory()
    return 4 << 30 if available is None else int(MEMORY_FRACTION * available)


def _batch_bytes(estimate: MemoryEstimate, batch: int) -> int:
    """Bytes of main memory that a batch takes; for a GPU those of its inputs, single and stacked."""
    return batch * (estimate.run_bytes if estimate.on_cpu else 2 * estimate.input_bytes)


def _require_batch_fits(estimate: MemoryEstimate, batch: int, budget: int) -> None:
    if batch > 1 and _batch_bytes(estimate, batch) > budget:
        fits = max(1, budget // _batch_bytes(estimate, 1))
        raise UsageError(
            f"A batch of {batch:,} scans takes about {format_bytes(_batch_bytes(estimate, batch))}; the memory "
            f"limit is {format_bytes(budget)}. Use `batch_size={fits}` or less, or raise `max_memory`."
        )


def _require_within_budget(estimate: MemoryEstimate, batch: int, workers: int, budget: int) -> None:
    """Raise if the scans in progress need more than the given limit."""
    per_worker = _batch_bytes(estimate, batch) + PREPARATION_MEMORY_FACTOR * estimate.input_bytes
    if workers * per_worker <= budget:
        return
    subject = "One scan takes" if batch == workers == 1 else f"{plural(workers * batch, 'scan')} at a time take"
    hint = f"Use `workers={budget // per_worker}` or less, or raise" if per_worker <= budget else "Raise"
    raise UsageError(
        f"{subject} about {format_bytes(workers * per_worker)}; the memory limit is {format_bytes(budget)}. "
        f"{hint} `max_memory`."
    )


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
