"""``ct3d-edge bench show`` and ``bench history``: the figures of records, as text or as a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct3d_edge.latency.record import BenchRecord


def show(
    record: Annotated[Path, typer.Argument(metavar="A.json", help="A record of `bench --out`.")],
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page that needs nothing else.")
    ] = None,
) -> None:
    """Show a record's percentiles and warnings, or write a page.

    The HTML page has distributions and stages.
    """
    from ct3d_edge.cli.bench_print import print_record
    from ct3d_edge.latency.load_record import read_record

    if html:
        require_page(html)
    loaded = read_record(record)
    print_record(loaded)
    if html:
        write_page(loaded, html)


def require_page(path: Path) -> None:
    """Make sure, before the work, that the page can be written.

    Raises
    ------
    MissingExtraError
        If what draws it is not installed.
    UsageError
        If the file cannot be written.
    """
    from ct3d_edge.extras import require_extra
    from ct3d_edge.system.atomic_write import require_writable

    require_extra("evaluate", ["jinja2", "matplotlib"])
    require_writable(path)


def write_page(record: "BenchRecord", path: Path) -> None:
    """Write the page and name its file."""
    from ct3d_edge.latency.page import record_page
    from ct3d_edge.system.atomic_write import atomic_file

    with atomic_file(path) as stream:
        stream.write(record_page(record).encode("utf-8", "backslashreplace"))
    typer.echo(f"wrote {path}")


def history(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with records of `bench --out`.")],
    metric: Annotated[
        str | None, typer.Option("--metric", help="Whose median to follow; the widest clock if left out.")
    ] = None,
) -> None:
    """Compare each record of a folder with the one before."""
    from ct3d_edge.cli.terminal import print_lines

    trends: dict[tuple[str, str], list[tuple[str, BenchRecord]]] = {}
    for name, record in _read_folder(folder):
        for series in (metric,) if metric else record.headline_series:
            if record.series().get(series):
                trends.setdefault((record.question, series), []).append((name, record))
    if not trends:
        raise UsageError(f"{folder} holds no record with counted runs{f' of {metric!r}' if metric else ''}.")
    for (question, series), records in trends.items():
        print_lines([f"{question}: {series}", *_describe_medians(series, records)])


def _read_folder(folder: Path) -> "list[tuple[str, BenchRecord]]":
    """File names and records in the order in which they were made; what cannot be read is logged."""
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.latency.load_record import read_record

    records = []
    for path in folder.glob("*.json"):
        try:
            records.append((path.name, read_record(path)))
        except UsageError as error:
            log(f"left out: {error}")
    return sorted(records, key=lambda entry: (entry[1].created_at, entry[0]))


def _describe_medians(series: str, records: "list[tuple[str, BenchRecord]]") -> "Iterator[str]":
    from ct3d_edge.latency.compare import comparability_errors, compare_percentile
    from ct3d_edge.latency.statistics import percentile

    previous: BenchRecord | None = None
    for name, record in records:
        samples = record.series()[series]
        median, change = percentile(samples, 50), ""
        if previous is not None:
            errors = comparability_errors(previous, record)
            compared = compare_percentile(previous.series()[series], samples).describe()
            change = f"not comparable: {'; '.join(errors)}" if errors else compared
        created = record.created[:16].replace("T", " ")
        yield f"{created}  {name}  {median.value:.1f} ms ({median.format_interval()})  {change}".rstrip()
        previous = record
