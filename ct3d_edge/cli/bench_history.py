"""``ct3d-edge bench history``: the records of a folder as a trend."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from ct3d_edge.latency import Trend

BAR = 30
"""Characters of the longest bar."""

WIDE = 120
"""Columns from which on there is room for bars."""


def history(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with records of `bench --json`.")],
    series: Annotated[
        str | None, typer.Option("--series", help="Whose median to follow; the widest clock if left out.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the trend as PNG.")] = None,
) -> None:
    """Show how the medians of a folder's records went.

    The oldest first, and where machine or work changed.
    """
    from ct3d_edge.atomic import atomic_file, require_writable
    from ct3d_edge.cli.terminal import out, say
    from ct3d_edge.extras import require_extra
    from ct3d_edge.latency import read_history

    if plot:
        require_extra("evaluate", ["matplotlib"])
        require_writable(plot)
    trends, left_out = read_history(folder, series)
    for sentence in left_out:
        say(f"left out: {sentence}")
    for trend in trends:
        out().print(_table(trend))
    if plot:
        from ct3d_edge.latency.trend_plot import trend_png

        with atomic_file(plot) as stream:
            stream.write(trend_png(trends))
        typer.echo(f"wrote {plot}")


def _table(trend: "Trend") -> "Table":
    from rich.text import Text

    from ct3d_edge.cli.terminal import out
    from ct3d_edge.formatting import printable
    from ct3d_edge.latency import compare
    from ct3d_edge.report import plain_table

    bars = BAR if out().width >= WIDE else 0
    table = plain_table()
    table.title, table.title_justify = Text(printable(f"{trend.question}: {trend.series}")), "left"
    for title in ("made", "file", "runs"):
        table.add_column(title)
    table.add_column("median, ms", justify="right")
    table.add_column("99 % interval", justify="right")
    if bars:
        table.add_column("", min_width=bars)
    table.add_column("against the one before")
    longest = max(entry.median.value for entry in trend.entries)
    for place, entry in enumerate(trend.entries):
        median = entry.median
        verdict = f"other conditions: {'; '.join(entry.broken_by)}" if entry.broken_by else ""
        if place and not entry.broken_by:
            before = trend.entries[place - 1].record.series()[trend.series]
            verdict = compare(before, entry.record.series()[trend.series]).describe()
        table.add_row(
            entry.record.created[:16].replace("T", " "),
            Text(printable(entry.file)),
            f"{median.samples}{' (incomplete)' if entry.record.incomplete else ''}",
            f"{median.value:.1f}",
            "-" if median.low is None or median.high is None else f"{median.low:.1f}..{median.high:.1f}",
            *(["▇" * max(1, round(bars * median.value / longest))] if bars else []),
            Text(printable(verdict)),
        )
    return table
