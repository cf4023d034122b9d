"""Many scans through a session: reading ahead, several at a time, in batches; order and isolation as one by one."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

from ct3d_edge.inference.predict import NOTHING_KNOWN, Analysis, analyse, compared, judge, recall
from ct3d_edge.inference.prepare import IN_MEMORY, Reading, Source, explained, read_source
from ct3d_edge.inference.schedule import Plan
from ct3d_edge.inference.worker_pool import Crew, timed_out
from ct3d_edge.quality_control.checker import Inspector
from ct3d_edge.results.record import Record, Timing
from ct3d_edge.scan.qc_flag import Finding
from ct3d_edge.session.runner import Runner


def analyse_many(
    paths: Iterable[Source],
    runner: Runner,
    plan: Plan,
    *,
    notes: tuple[Finding, ...] = (),
    known: Mapping[str, Record] = NOTHING_KNOWN,
    seconds: float | None = None,
    inspector: Inspector | None = None,
) -> Generator[Analysis, None, None]:
    """Run scans through an open session as planned; the same results in the same order as `analyse`.

    Parameters
    ----------
    notes
        Findings that hold for every answer of this session.
    known
        Path to a record of an earlier run, taken over if it still holds; see `recall`.
    seconds
        How long a scan may take before it gets the failure ``timed_out``: to be read and prepared, and where the
        workers run it through the network themselves, that too.
    inspector
        Adds what a passport finds, and has the model judge only scans that are sound.

    Raises
    ------
    ProviderError
        If the session fails.
    """
    if not plan.workers and seconds is None:
        yield from analyse(paths, runner, notes, known, inspector)
        return
    steps = _Steps(runner, notes, known, seconds, inspector)
    if plan.whole:
        crew: Crew[Source, Analysis] = Crew(
            steps.whole, steps.late_analysis, workers=plan.workers, ahead=plan.ahead, seconds=seconds
        )
        with closing(crew.results(paths)) as analyses:
            for analysis in analyses:
                yield compared(analysis, inspector)
    else:
        readers = Crew(steps.begin, steps.late, workers=max(plan.workers, 1), ahead=plan.ahead, seconds=seconds)
        with closing(readers.results(paths)) as begun:
            while batch := list(islice(begun, plan.batch)):
                for analysis in steps.end(batch):
                    yield compared(analysis, inspector)


class _Steps:
    """What happens to a scan before and in the network."""

    def __init__(
        self,
        runner: Runner,
        notes: tuple[Finding, ...],
        known: Mapping[str, Record],
        seconds: float | None,
        inspector: Inspector | None,
    ) -> None:
        self._runner, self._notes, self._known, self._seconds = runner, notes, known, seconds
        self._inspector = inspector

    def begin(self, path: Source, on_block: Callable[[], None]) -> Reading | Analysis:
        """Read and prepare, unless its record is known."""
        record = recall(path, self._known, self._runner, self._inspector, on_block)
        if record:
            return Analysis(record, None)
        return read_source(path, self._runner.contract, on_block, self._inspector)

    def end(self, begun: list[Reading | Analysis]) -> Iterator[Analysis]:
        """Run those that are not known through the network, as one batch."""
        readings = [one for one in begun if isinstance(one, Reading)]
        judged = iter(judge(readings, self._runner, self._notes, self._inspector))
        for one in begun:
            yield next(judged) if isinstance(one, Reading) else one

    def whole(self, path: Source, on_block: Callable[[], None]) -> Analysis:
        """Both steps for one scan."""
        return next(self.end([self.begin(path, on_block)]))

    def late(self, path: Source) -> Reading:
        """What is left of a scan whose thread hangs."""
        error = timed_out(path, self._seconds)

        def fail() -> None:
            raise error

        name = str(path) if isinstance(path, Path) else IN_MEMORY
        return Reading(name, None, None, explained(fail), (), Timing())

    def late_analysis(self, path: Source) -> Analysis:
        """The same, as a result."""
        return next(self.end([self.late(path)]))
