"""``ct3d-edge bench show`` and ``bench history``: the figures of records, as text, page or trend."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from ct3d_edge.latency.history import Trend
    from ct3d_edge.latency.record import BenchRecord


def show(
    record: Annotated[Path, typer.Argument(metavar="A.json", help="A record of `bench --out`.")],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page that needs nothing else.")
    ] = None,
) -> None:
    """Show a record's percentiles and doubts, or write a page.

    The HTML page has distributions and stages.
    """
    from ct3d_edge.latency.load_record import read_record
    from ct3d_edge.system.atomic_write import require_writable

    if html:
        require_writable(html)
    read = read_record(record)
    _print(read)
    if html:
        write_page(read, html)


def write_page(record: "BenchRecord", path: Path) -> None:
    """Write the page and say so."""
    from ct3d_edge.latency.page import record_page
    from ct3d_edge.system.atomic_write import atomic_file

    with atomic_file(path) as stream:
        stream.write(record_page(record).encode("utf-8", "backslashreplace"))
    typer.echo(f"wrote {path}")


def _print(record: "BenchRecord") -> None:
    from ct3d_edge.cli.bench_print import line, needs, percentile_table
    from ct3d_edge.cli.terminal import out
    from ct3d_edge.latency.stability import stability_warnings
    from ct3d_edge.latency.statistics import standard_percentiles

    console = out()
    line(console, f"{record.question}, {record.created}")
    if record.incomplete:
        line(console, f"incomplete: {record.incomplete}")
    series = {name: samples for name, samples in record.series().items() if samples}
    if not series:
        line(console, "It has no counted runs.")
        return
    console.print(percentile_table({"series, ms": series}))
    if "profile" in record.conditions:
        from ct3d_edge.cli.bench_scenarios import print_profile

        print_profile(record.conditions["profile"])
    shortest = min(series.values(), key=len)
    needs(console, standard_percentiles(shortest))
    for name in record.headline_series:
        for doubt in stability_warnings(series.get(name, ()), record.surroundings):
            line(console, f"{name}: {doubt}")


BAR = 30
"""Characters of the longest bar."""

WIDE = 120
"""Columns from which on there is room for bars."""


def history(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with records of `bench --out`.")],
    series: Annotated[
        str | None, typer.Option("--metric", help="Whose median to follow; the widest clock if left out.")
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE", help="Draw the trend as PNG.")] = None,
) -> None:
    """Show how the medians of a folder's records went.

    The oldest first, and where machine or work changed.
    """
    from ct3d_edge.cli.terminal import log, out
    from ct3d_edge.extras import require_extra
    from ct3d_edge.latency.history import read_history
    from ct3d_edge.system.atomic_write import atomic_file, require_writable

    if plot:
        require_extra("evaluate", ["matplotlib"])
        require_writable(plot)
    trends, left_out = read_history(folder, series)
    for sentence in left_out:
        log(f"left out: {sentence}")
    for trend in trends:
        out().print(_table(trend))
    if plot:
        from ct3d_edge.latency.history import trend_png

        with atomic_file(plot) as stream:
            stream.write(trend_png(trends))
        typer.echo(f"wrote {plot}")


def _table(trend: "Trend") -> "Table":
    from rich.text import Text

    from ct3d_edge.cli.terminal import out
    from ct3d_edge.formatting import printable
    from ct3d_edge.latency.compare import compare_percentile
    from ct3d_edge.report.table import plain_table

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
            verdict = compare_percentile(before, entry.record.series()[trend.series]).describe()
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
