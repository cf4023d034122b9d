"""Many scans through a session: reading ahead, several at a time, in batches; order and isolation as one by one."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

from ct3d_edge.inference.predict import (
    NOTHING_KNOWN,
    ScanResult,
    flag_duplicate,
    load_known_record,
    predict_batch,
    predict_in_turn,
)
from ct3d_edge.inference.prepare import IN_MEMORY, PreparedScan, Source, prepare_source, run_guarded
from ct3d_edge.inference.schedule import Schedule
from ct3d_edge.inference.worker_pool import OrderedThreadPool, timeout_error
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.results.record import ResultRecord, Timing
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.session.runner import Runner


def predict_scans(
    paths: Iterable[Source],
    runner: Runner,
    plan: Schedule,
    *,
    notes: tuple[QCFlag, ...] = (),
    known: Mapping[str, ResultRecord] = NOTHING_KNOWN,
    seconds: float | None = None,
    checker: QualityChecker | None = None,
) -> Generator[ScanResult, None, None]:
    """Run scans through an open session as planned; the same results in the same order as `predict_in_turn`.

    Parameters
    ----------
    notes
        Findings that hold for every answer of this session.
    known
        Path to a record of an earlier run, taken over if it still holds; see `load_known_record`.
    seconds
        How long a scan may take before it gets the failure ``timeout``: to be read and prepared, and where the
        workers run it through the network themselves, that too.
    checker
        Adds what a passport finds, and has the model judge only scans that are sound.

    Raises
    ------
    ProviderError
        If the session fails.
    """
    if not plan.workers and seconds is None:
        yield from predict_in_turn(paths, runner, notes, known, checker)
        return
    steps = _Steps(runner, notes, known, seconds, checker)
    if plan.whole:
        pool: OrderedThreadPool[Source, ScanResult] = OrderedThreadPool(
            steps.whole, steps.late_analysis, workers=plan.workers, ahead=plan.ahead, seconds=seconds
        )
        with closing(pool.results(paths)) as analyses:
            for analysis in analyses:
                yield flag_duplicate(analysis, checker)
    else:
        readers = OrderedThreadPool(
            steps.begin, steps.late, workers=max(plan.workers, 1), ahead=plan.ahead, seconds=seconds
        )
        with closing(readers.results(paths)) as begun:
            while batch := list(islice(begun, plan.batch)):
                for analysis in steps.end(batch):
                    yield flag_duplicate(analysis, checker)


class _Steps:
    """What happens to a scan before and in the network."""

    def __init__(
        self,
        runner: Runner,
        notes: tuple[QCFlag, ...],
        known: Mapping[str, ResultRecord],
        seconds: float | None,
        checker: QualityChecker | None,
    ) -> None:
        self._runner, self._notes, self._known, self._seconds = runner, notes, known, seconds
        self._checker = checker

    def begin(self, path: Source, on_block: Callable[[], None]) -> PreparedScan | ScanResult:
        """Read and prepare, unless its record is known."""
        record = load_known_record(path, self._known, self._runner, self._checker, on_block)
        if record:
            return ScanResult(record, None)
        return prepare_source(path, self._runner.contract, on_block, self._checker)

    def end(self, begun: list[PreparedScan | ScanResult]) -> Iterator[ScanResult]:
        """Run those that are not known through the network, as one batch."""
        readings = [one for one in begun if isinstance(one, PreparedScan)]
        judged = iter(predict_batch(readings, self._runner, self._notes, self._checker))
        for one in begun:
            yield next(judged) if isinstance(one, PreparedScan) else one

    def whole(self, path: Source, on_block: Callable[[], None]) -> ScanResult:
        """Both steps for one scan."""
        return next(self.end([self.begin(path, on_block)]))

    def late(self, path: Source) -> PreparedScan:
        """What is left of a scan whose thread hangs."""
        error = timeout_error(path, self._seconds)

        def fail() -> None:
            raise error

        name = str(path) if isinstance(path, Path) else IN_MEMORY
        return PreparedScan(name, None, None, run_guarded(fail), (), Timing())

    def late_analysis(self, path: Source) -> ScanResult:
        """The same, as a result."""
        return next(self.end([self.late(path)]))
