"""``ct3d-edge bench compare``, ``show`` and ``history``: compare, show and list records."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.errors import CheckFailedError, InconclusiveError, UsageError
from ct3d_edge.formatting import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ct3d_edge.cli.bench_print import Comparison, Series
    from ct3d_edge.latency.compare import RegressionThreshold
    from ct3d_edge.latency.record import BenchRecord


def compare(
    before: Annotated[str, typer.Argument(metavar="A.json", help="The first record; A.json:NAME is one series of it.")],
    after: Annotated[str, typer.Argument(metavar="B.json", help="The second record, or a series of it.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="THRESHOLD",
            help="End with 4 if this holds: 'p50 > +5%', 'infer p90 > 400ms'; more than once. With 5 under other load.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compare though machine or work differ.")] = False,
) -> None:
    """Compare two records of one benchmark.

    Each percentile has a 99 % interval on the ratio. Two series of one record whose contestants ran in turn are
    compared pair by pair: A.json:ours A.json:theirs.
    """
    from ct3d_edge.cli.bench_print import print_comparison
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.latency.compare import RegressionThreshold, comparability_notes

    thresholds = [RegressionThreshold.parse(text) for text in fail_if or ()]
    (first, first_name), (second, second_name) = _read(before), _read(after)
    _require_comparable(first, second, force)
    for note in comparability_notes(first, second):
        log(note)
    paired = first == second and first.arrangement == "in turn"
    changes = _changes(_series(first, first_name, before), _series(second, second_name, after), paired=paired)
    print_comparison(changes)
    # Contestants that ran in turn all met the same load.
    load = "" if paired else _external_load(first, second)
    _check(thresholds, changes, default=_default_series(first, changes), load=load)


def _read(argument: str) -> "tuple[BenchRecord, str | None]":
    """The record and the series that an argument names."""
    from ct3d_edge.latency.record import read_record

    path, colon, name = argument.rpartition(":")
    if colon and not Path(argument).exists():
        return read_record(Path(path)), name
    return read_record(Path(argument)), None


def _require_comparable(first: "BenchRecord", second: "BenchRecord", force: bool) -> None:
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.latency.compare import comparability_errors

    errors = comparability_errors(first, second)
    if errors and not force:
        raise UsageError(f"The records cannot be compared; they differ in {'; '.join(errors)}. --force does it anyway.")
    for text in errors:
        log(f"Compared although they differ in {text}")


def _series(record: "BenchRecord", name: str | None, argument: str) -> "Series":
    series = record.series()
    if not any(series.values()):
        raise UsageError(f"{argument} has no counted runs.")
    if name is None:
        return series
    if name not in series:
        raise UsageError(f"{argument}: there is no series {name!r}; the record has {', '.join(series)}.")
    return {"": series[name]}


def _changes(first: "Series", second: "Series", *, paired: bool) -> "Comparison":
    """Every percentile of every series that both records have."""
    from ct3d_edge.latency.compare import compare_percentile
    from ct3d_edge.latency.statistics import PERCENTILE_RANKS

    if not first.keys() & second.keys():
        raise UsageError(f"The records have no series in common: {', '.join(first)} and {', '.join(second)}.")
    return {
        (name, rank): compare_percentile(first[name], second[name], rank, paired=paired)
        for name in first
        if name in second
        for rank in PERCENTILE_RANKS
    }


def _default_series(record: "BenchRecord", changes: "Comparison") -> str | None:
    """Series of a threshold without a name: the widest clock; for contestants none unless there is only one."""
    names = list(dict.fromkeys(name for name, _ in changes))
    return names[-1] if record.arrangement == "stages" or len(names) == 1 else None


def _external_load(first: "BenchRecord", second: "BenchRecord") -> str:
    """Other load during the measurements, in words."""
    from ct3d_edge.latency.stability import external_load

    loads = {name: external_load(record.surroundings) for name, record in (("first", first), ("second", second))}
    return "; ".join(f"in the {name} record {', '.join(clauses)}" for name, clauses in loads.items() if clauses)


def _check(thresholds: "list[RegressionThreshold]", changes: "Comparison", default: str | None, load: str) -> None:
    """Compare the changes with the thresholds.

    Raises
    ------
    CheckFailedError
        A threshold is exceeded.
    InconclusiveError
        A threshold is exceeded, and other load on the machine may be the reason.
    """
    exceeded = []
    for threshold in thresholds:
        name = default if threshold.series is None else threshold.series
        change = changes.get((name, threshold.rank)) if name is not None else None
        if change is None:
            names = ", ".join(dict.fromkeys(name for name, _ in changes))
            raise UsageError(f"'{threshold.text}' must name a series that both records have: {names}.")
        if threshold.exceeded_by(change):
            exceeded.append(
                f"{threshold.text} ({change.before:.1f} to {change.after:.1f} ms, ratio {change.ratio:.3f})"
            )
    if exceeded and load:
        raise InconclusiveError(
            f"Inconclusive, as there was other load on the machine ({load}): {'; '.join(exceeded)}. "
            "Measure both again, in turn, when nothing else runs."
        )
    if exceeded:
        raise CheckFailedError(f"Exceeded: {'; '.join(exceeded)}.")
    if thresholds:
        typer.echo(f"{plural(len(thresholds), 'threshold')} not exceeded")


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
    from ct3d_edge.latency.record import read_record

    if html:
        require_page(html)
    loaded = read_record(record)
    print_record(loaded)
    if html:
        write_page(loaded, html)


def require_page(path: Path) -> None:
    """Check before the measurement that the page can be written.

    Raises
    ------
    MissingExtraError
        jinja2 or matplotlib is not installed.
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
    """File names and records in the order of their creation; what cannot be read is logged."""
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.latency.record import read_record

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
