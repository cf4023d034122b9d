"""``ct3d-edge bench show``: a record's figures again, and as a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ct3d_edge.latency import BenchRecord


def show(
    record: Annotated[Path, typer.Argument(metavar="A.json", help="A record of `bench --json`.")],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page that needs nothing else.")
    ] = None,
) -> None:
    """Show a record's percentiles and doubts, or write a page.

    The HTML page has distributions and stages.
    """
    from ct3d_edge.atomic import require_writable
    from ct3d_edge.latency import read_record

    if html:
        require_writable(html)
    read = read_record(record)
    _print(read)
    if html:
        write_page(read, html)


def write_page(record: "BenchRecord", path: Path) -> None:
    """Write the page and say so."""
    from ct3d_edge.atomic import atomic_file
    from ct3d_edge.latency import page

    with atomic_file(path) as stream:
        stream.write(page(record).encode("utf-8", "backslashreplace"))
    typer.echo(f"wrote {path}")


def _print(record: "BenchRecord") -> None:
    from ct3d_edge.cli.bench_print import line, needs, percentile_table
    from ct3d_edge.cli.terminal import out
    from ct3d_edge.latency import doubts, summary

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
        from ct3d_edge.cli.bench_profile import print_profile

        print_profile(record.conditions["profile"])
    shortest = min(series.values(), key=len)
    needs(console, summary(shortest))
    for name in record.headlines:
        for doubt in doubts(series.get(name, ()), record.surroundings):
            line(console, f"{name}: {doubt}")
