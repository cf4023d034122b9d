"""The records in a folder as trends, in the order in which they were made."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ct3d_edge.errors import UsageError
from ct3d_edge.latency.compare import comparability_errors
from ct3d_edge.latency.load_record import read_record
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import Percentile, percentile


@dataclass(frozen=True)
class HistoryEntry:
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
    entries: tuple[HistoryEntry, ...]


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
        raise UsageError(f"{folder} is not a folder. `bench history` takes a folder with records of `bench --out`.")
    found: dict[tuple[str, str], list[tuple[str, BenchRecord]]] = {}
    left_out = []
    for path in sorted(folder.glob("*.json")):
        try:
            record = read_record(path)
        except UsageError as error:
            left_out.append(str(error))
            continue
        names = _selected_series(record, series)
        if not names:
            left_out.append(f"{path} has no counted runs{f' of {series!r}' if series else ''}.")
        for name in names:
            found.setdefault((record.question, name), []).append((path.name, record))
    if not found:
        raise UsageError(f"{folder} holds no record to show. {' '.join(left_out)}".strip())
    return tuple(_trend(question, name, records) for (question, name), records in found.items()), tuple(left_out)


def _selected_series(record: BenchRecord, series: str | None) -> list[str]:
    names = [name for name, samples in record.series().items() if samples]
    return [name for name in names if name == series or (series is None and name in record.headline_series)]


def _trend(question: str, series: str, records: list[tuple[str, BenchRecord]]) -> Trend:
    entries: list[HistoryEntry] = []
    for file, record in sorted(records, key=lambda entry: (entry[1].created_at, entry[0])):
        broken_by = tuple(comparability_errors(entries[-1].record, record)) if entries else ()
        entries.append(HistoryEntry(file, record, percentile(record.series()[series], 50), broken_by))
    return Trend(question, series, tuple(entries))


WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 8.0, 3.0, 120


def trend_png(trends: Sequence[Trend]) -> bytes:
    """One panel a trend: medians with their 99 % intervals, a dotted line where machine or work changed."""
    figure = Figure((WIDTH_INCHES, HEIGHT_INCHES * len(trends)), DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)  # no window system is asked for one
    panels = figure.subplots(len(trends), squeeze=False)[:, 0]
    for axes, trend in zip(panels, trends, strict=True):
        _draw(axes, trend)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _draw(axes: Axes, trend: Trend) -> None:
    medians = [entry.median for entry in trend.entries]
    values = [median.value for median in medians]
    below = [median.value - (median.value if median.low is None else median.low) for median in medians]
    above = [(median.value if median.high is None else median.high) - median.value for median in medians]
    places = range(len(medians))
    axes.errorbar(places, values, yerr=[below, above], fmt="o-", capsize=3)
    for place, entry in enumerate(trend.entries):
        if entry.broken_by:
            axes.axvline(place - 0.5, linestyle=":", color="grey")
    axes.set_xticks(list(places), [entry.record.created[:10] for entry in trend.entries], rotation=30, ha="right")
    axes.set_title(f"{trend.question}: {trend.series}".replace("$", r"\$"), fontsize="medium")
    axes.set_ylabel("median, ms")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
