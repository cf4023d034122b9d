"""``ct3d-edge bench compare``: is the second record slower than the first, or does it only look so?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ct3d_edge.errors import CheckFailedError, InconclusiveError, UsageError

if TYPE_CHECKING:
    from ct3d_edge.latency.compare import PercentileChange, RegressionThreshold
    from ct3d_edge.latency.record import BenchRecord

    Comparison = dict[tuple[str, float], PercentileChange]


def compare(
    before: Annotated[str, typer.Argument(metavar="A.json", help="The first record; A.json:NAME is one series of it.")],
    after: Annotated[str, typer.Argument(metavar="B.json", help="The second record, or a series of it.")],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="GATE",
            help="End with 4 if this holds: 'p50 > +5%', 'infer p90 > 400ms'; more than once. With 5 under other load.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compare though machine or work differ.")] = False,
) -> None:
    """Compare two records of one benchmark.

    Each percentile has a 99 % interval on the ratio. Two series of one record whose contestants ran in turn are
    compared pair by pair: A.json:ours A.json:theirs.
    """
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.latency.compare import RegressionThreshold, comparability_notes

    gates = [RegressionThreshold.parse(text) for text in fail_if or ()]
    (one, first), (other, second) = _read(before), _read(after)
    _refuse_mismatch(one, other, force)
    for remark in comparability_notes(one, other):
        log(remark)
    changes = _changes(_series(one, first, before), _series(other, second, after), paired=_paired(one, other))
    _print(changes)
    _check(gates, changes, whole=_whole(one, changes), load=_load(one, other))


def _read(argument: str) -> "tuple[BenchRecord, str | None]":
    """A record, and the series of it that was named."""
    from ct3d_edge.latency.load_record import read_record

    path, colon, name = argument.rpartition(":")
    if colon and not Path(argument).exists():
        return read_record(Path(path)), name
    return read_record(Path(argument)), None


def _refuse_mismatch(one: "BenchRecord", other: "BenchRecord", force: bool) -> None:
    from ct3d_edge.cli.terminal import log
    from ct3d_edge.latency.compare import comparability_errors

    found = comparability_errors(one, other)
    if found and not force:
        raise UsageError(f"The records cannot be compared; they differ in {'; '.join(found)}. --force does it anyway.")
    for text in found:
        log(f"Compared in spite of {text}")


def _series(record: "BenchRecord", name: str | None, argument: str) -> dict[str, tuple[float, ...]]:
    series = record.series()
    if not any(series.values()):
        raise UsageError(f"{argument} has no counted runs.")
    if name is None:
        return series
    if name not in series:
        raise UsageError(f"{argument}: there is no series {name!r}; the record has {', '.join(series)}.")
    return {"": series[name]}


def _paired(one: "BenchRecord", other: "BenchRecord") -> bool:
    return one == other and one.arrangement == "in turn"


def _changes(one: dict[str, tuple[float, ...]], other: dict[str, tuple[float, ...]], *, paired: bool) -> "Comparison":
    """Every series of both, every percentile that both have enough samples for, the median in any case."""
    from ct3d_edge.latency.compare import compare_percentile as compare_series
    from ct3d_edge.latency.statistics import PERCENTILE_RANKS

    if not one.keys() & other.keys():
        raise UsageError(f"The records have no series in common: {', '.join(one)} and {', '.join(other)}.")
    return {
        (name, rank): compare_series(one[name], other[name], rank, paired=paired)
        for name in one
        if name in other
        for rank in PERCENTILE_RANKS
    }


def _print(changes: "Comparison") -> None:
    from rich.text import Text

    from ct3d_edge.cli.terminal import out
    from ct3d_edge.formatting import printable
    from ct3d_edge.report.table import plain_table

    table = plain_table()
    table.add_column("series")
    for title in ("", "first, ms", "second, ms", "ratio", "99 % interval"):
        table.add_column(title, justify="right")
    table.add_column("verdict")
    for (name, rank), change in changes.items():
        if change.missing and rank > 50:
            continue
        interval = "-" if change.low is None else f"{change.low:.3f}..{change.high:.3f}"
        figures = (f"p{rank:g}", f"{change.before:.1f}", f"{change.after:.1f}", f"{change.ratio:.3f}", interval)
        table.add_row(Text(printable(name)), *figures, change.describe())
    console = out()
    console.print(table)
    paired = next(iter(changes.values())).paired
    console.print("Paired, round by round." if paired else "Unpaired: block bootstrap, 4000 resamples, seed 0.")


def _whole(record: "BenchRecord", changes: "Comparison") -> str | None:
    """The series that a gate without a name means: the widest clock; contestants have none unless there is one."""
    names = list(dict.fromkeys(name for name, _ in changes))
    return names[-1] if record.arrangement == "stages" or len(names) == 1 else None


def _load(one: "BenchRecord", other: "BenchRecord") -> str:
    """Other load while a record was measured, in words; none for contestants that ran in turn: it met all alike."""
    from ct3d_edge.latency.system_monitor import external_load

    if _paired(one, other):
        return ""
    seen = (("first", external_load(one.surroundings)), ("second", external_load(other.surroundings)))
    return "; ".join(f"in the {name} record {', '.join(clauses)}" for name, clauses in seen if clauses)


def _check(gates: "list[RegressionThreshold]", changes: "Comparison", whole: str | None, load: str) -> None:
    """Judge the gates.

    Raises
    ------
    GateError
        Naming those that are broken.
    NotJudgedError
        If they may be broken by other load on the machine.
    """
    broken = []
    for gate in gates:
        name = whole if gate.series is None else gate.series
        change = changes.get((name, gate.rank)) if name is not None else None
        if change is None:
            names = ", ".join(dict.fromkeys(name for name, _ in changes))
            raise UsageError(f"'{gate.text}' must name a series that both records have: {names}.")
        if gate.broken_by(change):
            broken.append(f"{gate.text} ({change.before:.1f} to {change.after:.1f} ms, ratio {change.ratio:.3f})")
    if broken and load:
        raise InconclusiveError(
            f"Not judged, as there was other load on the machine ({load}): {'; '.join(broken)}. "
            "Measure both again, in turn, when nothing else runs."
        )
    if broken:
        raise CheckFailedError(f"Broken: {'; '.join(broken)}.")
    if gates:
        typer.echo(f"{len(gates)} {'gate holds' if len(gates) == 1 else 'gates hold'}")
