"""The records in a folder, in the order in which they were made: what became faster or slower, and since when."""

from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.errors import UsageError
from ct3d_edge.latency.mismatch import obstacles
from ct3d_edge.latency.reading import read_record
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import Percentile, percentile


@dataclass(frozen=True)
class Entry:
    """One record of a trend.

    Parameters
    ----------
    file
        Its name.
    record
        The record.
    median
        Of the chosen series, in ms.
    broken_by
        Why it cannot be compared with the entry before; empty if it can.
    """

    file: str
    record: BenchRecord
    median: Percentile
    broken_by: tuple[str, ...]


@dataclass(frozen=True)
class Trend:
    """Records that answer one question, oldest first.

    Parameters
    ----------
    question, series
        What was measured, and which durations of it.
    entries
        One or more.
    """

    question: str
    series: str
    entries: tuple[Entry, ...]


def read_history(folder: Path, series: str | None = None) -> tuple[tuple[Trend, ...], tuple[str, ...]]:
    """Read every ``.json`` file of a folder and arrange the records by question and time.

    Parameters
    ----------
    folder
        Where records are.
    series
        Whose median is followed; where left out, the widest clock or total, or each contestant.

    Returns
    -------
    trends
        One for each question and series.
    left_out
        A sentence for each file that is no record or has no counted runs of that series.

    Raises
    ------
    UsageError
        If the folder cannot be read or holds no record.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder. `bench history` takes a folder with records of `bench --json`.")
    found: dict[tuple[str, str], list[tuple[str, BenchRecord]]] = {}
    left_out = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = read_record(path)
        except UsageError as error:
            left_out.append(str(error))
            continue
        names = _followed(record, series)
        if not names:
            left_out.append(f"{path} has no counted runs{f' of {series!r}' if series else ''}.")
        for name in names:
            found.setdefault((record.question, name), []).append((path.name, record))
    if not found:
        raise UsageError(f"{folder} holds no record to show. {' '.join(left_out)}".strip())
    return tuple(_trend(question, name, records) for (question, name), records in found.items()), tuple(left_out)


def _followed(record: BenchRecord, series: str | None) -> list[str]:
    names = [name for name, samples in record.series().items() if samples]
    return [name for name in names if name == series or (series is None and name in record.headlines)]


def _trend(question: str, series: str, records: list[tuple[str, BenchRecord]]) -> Trend:
    entries: list[Entry] = []
    for file, record in sorted(records, key=lambda entry: (entry[1].moment, entry[0])):
        broken_by = tuple(obstacles(entries[-1].record, record)) if entries else ()
        entries.append(Entry(file, record, percentile(record.series()[series], 50), broken_by))
    return Trend(question, series, tuple(entries))
