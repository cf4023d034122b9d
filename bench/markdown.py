"""Pieces of Markdown that all tables share."""

from collections.abc import Iterable, Sequence

from ct3d_edge.latency.statistics import percentile


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table, a line a row."""
    body = "\n".join(f"| {' | '.join(row)} |" for row in (columns, *rows))
    head, _, rest = body.partition("\n")
    return "\n".join([head, "|" + "---|" * len(columns), *([rest] if rest else [])])


def format_duration(times: Sequence[float]) -> str:
    """``12.3 (12.1..12.9)``, the median and its 99 % interval; no interval where there are too few runs for one."""
    median = percentile(times, 50)
    interval = "" if median.low is None or median.high is None else f" ({median.low:.1f}..{median.high:.1f})"
    return f"{median.value:.1f}{interval}"
