"""A results file that appears complete at the end of a run, and the journal that survives the run's death."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ct3d_edge.errors import OutputError, UsageError
from ct3d_edge.formatting import plural
from ct3d_edge.results.formats import check_results_path, write_results
from ct3d_edge.results.journal import ResultsJournal, StartedScans, read_journal
from ct3d_edge.results.record import ResultRecord
from ct3d_edge.results.shards import Shard
from ct3d_edge.system.file_lock import exclusive_lock

JOURNAL_SUFFIX = ".journal"
STARTED_SUFFIX = ".started"


class ResultsFile:
    """The results file of one run; made by `open_results`.

    Parameters
    ----------
    path
        The .jsonl, .csv or .parquet file that is written at the end.
    journal
        What holds the records until then.
    known
        Path to the record of an earlier run, which holds as long as its key is the same.
    started
        The scans that were started.
    """

    def __init__(
        self, path: Path, journal: ResultsJournal, known: Mapping[str, ResultRecord], started: StartedScans
    ) -> None:
        self.path = path
        self.known = known
        self.started = started
        self.reused = 0
        """How many records of an earlier run this run has taken over."""
        self._journal = journal

    @property
    def journal_path(self) -> Path:
        """Where the records are until the run ends."""
        return self._journal.path

    def add(self, record: ResultRecord) -> None:
        """Keep a record, unless it is one of those that were known.

        Raises
        ------
        UsageError
            If it cannot be written.
        """
        if self.known.get(record.scan) is record:
            self.reused += 1
        else:
            self._journal.append(record)

    def describe_journal(self) -> str:
        """How many records the journal holds, for the message of a run that ended early."""
        return f"{self.journal_path} holds {plural(self._journal.records, 'record')}; go on with `resume=True`"

    def finish(self, records: Sequence[ResultRecord], labels: Sequence[str]) -> None:
        """Write all records of the run, in order, replace the file of an earlier one, and remove the journal.

        Raises
        ------
        UsageError
            If the file cannot be written. The journal then stays.
        """
        try:
            write_results(self.path, records, labels)
        except (UsageError, OutputError) as error:
            raise type(error)(f"{error} {self.journal_path} holds the records; go on with `resume=True`.") from error
        self.journal_path.unlink(missing_ok=True)


@contextmanager
def open_results(path: Path, *, resume: bool = False, shard: Shard | None = None) -> Iterator[ResultsFile]:
    """Be the one run that writes ``path``, and keep its records in ``path`` + ``.journal`` until it is finished.

    Parameters
    ----------
    path
        Ends in .jsonl, .csv or .parquet. A link is followed.
    resume
        Take over the records of the run whose journal is still there, and those of a finished .jsonl file.
    shard
        Which part of the scans the run is for.

    Raises
    ------
    UsageError
        The file cannot be written, another process writes it, a journal holds records and ``resume`` is False, or
        what should be resumed are not records, or those of another shard.
    """
    check_results_path(path)
    target = path.resolve() if path.is_symlink() else path
    with exclusive_lock(target):
        known = _read_finished(target) if resume else {}
        with ResultsJournal(target.with_name(target.name + JOURNAL_SUFFIX)) as journal:
            try:
                if journal.records and not resume:
                    raise UsageError(
                        f"A run that wrote {path} ended early; {journal.path} holds its "
                        f"{plural(journal.records, 'record')}. Go on with it by `resume=True`, or remove that file "
                        "to begin again."
                    )
                known |= keep_latest_by_scan(read_journal(journal.path))
                if shard is not None:
                    shard.require_own(known, path)
                with StartedScans(target.with_name(target.name + STARTED_SUFFIX)) as started:
                    yield ResultsFile(path, journal, known, started)
            finally:
                if not journal.records:
                    journal.path.unlink(missing_ok=True)


def _read_finished(path: Path) -> dict[str, ResultRecord]:
    """Records of a finished run. A CSV or Parquet file does not hold all of a record, so its scans are done again."""
    if path.suffix.lower() != ".jsonl" or not path.exists():
        return {}
    return keep_latest_by_scan(read_journal(path))


def keep_latest_by_scan(records: Iterator[ResultRecord]) -> dict[str, ResultRecord]:
    """Path to the last record of each scan; only those whose scan would give the same again."""
    last = {record.scan: record for record in records}
    return {scan: record for scan, record in last.items() if record.key is not None}
