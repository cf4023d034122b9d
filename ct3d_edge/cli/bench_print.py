"""Benchmark records for people."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ct3d_edge.cli.terminal import out
from ct3d_edge.formatting import format_bytes, plural, printable, wrap

if TYPE_CHECKING:
    from ct3d_edge.latency.load_generator import LoadResult
    from ct3d_edge.latency.record import BenchRecord
    from ct3d_edge.latency.statistics import Percentile


def print_single(record: "BenchRecord") -> None:
    """What happens once, then stages and nested clocks with their percentiles, then doubts."""
    from ct3d_edge.latency.stability import stability_warnings
    from ct3d_edge.latency.statistics import standard_percentiles

    console, total = out(), record.samples.total
    console.print("Once, in ms: " + ", ".join(f"{name} {value:.1f}" for name, value in record.once.items()))
    print_level(console, record)
    series = record.series()
    *_, whole = record.clocks.values()
    stages = {name: series[name] for name in whole}
    clocks = {name: series[name] for name in record.clocks}
    console.print(percentile_table({"stage": stages, "clock": clocks}))
    needs(console, standard_percentiles(total))
    for doubt in stability_warnings(total, record.surroundings):
        line(console, doubt)
    for name, value in record.resources.items():
        line(console, _amount(name, value))


def _amount(name: str, value: float | None) -> str:
    if value is None:
        return f"{name.rpartition(',')[0] or name}: this system does not tell"
    if name.endswith(", bytes"):
        return f"{name.removesuffix(', bytes')}: {format_bytes(value)}"
    return f"{name}: {value:.3f}"


def print_level(console: Console, record: "BenchRecord") -> None:
    """How the steady state was found, and how well its median is known."""
    from ct3d_edge.latency.statistics import percentile

    taken = [len(next(iter(part.values()), ())) for part in (record.samples.counted, record.samples.warmup)]
    steady = record.samples.steady_after
    found = "no steady level was found" if steady is None else f"steady after {steady}"
    console.print(f"Steady state, in ms: {plural(taken[0], 'run')} after {plural(taken[1], 'warm-up run')} ({found})")
    precision = percentile(record.samples.total, 50).precision
    wanted = record.conditions.get("target_precision")
    if wanted and precision > wanted:
        console.print(f"The time budget was spent: the median is known to ± {precision:.1%}, not to ± {wanted:.1%}.")


SWEEP = ("threads", "batch", "runs", "median of a batch, ms", "99 % interval", "scans a second", "of the first")


def print_sweep(record: "BenchRecord") -> None:
    """One row a configuration: median with its interval, scans a second, and how much more than the first row."""
    from ct3d_edge.latency.stability import stability_warnings

    table = _right_aligned(SWEEP)
    first = None
    for name, facts in record.conditions["configurations"].items():
        samples = record.samples.counted.get(name)
        if samples:
            throughput = 1000 * facts["batch"] * len(samples) / sum(samples)
            first = first or throughput
            threads = str(facts["threads"] or record.conditions["receipt"]["threads"])
            table.add_row(threads, *_sweep_cells(samples, facts["batch"], throughput, first))
    console = out()
    console.print("Prepared scans from memory to their probabilities; scans a second over all counted runs.")
    console.print(table)
    for name, samples in record.samples.counted.items():
        for doubt in stability_warnings(samples, record.surroundings):
            line(console, f"{name}: {doubt}")


def _sweep_cells(samples: "Sequence[float]", batch: int, throughput: float, first: float) -> list[str]:
    from ct3d_edge.latency.statistics import percentile

    median = percentile(samples, 50)
    return [
        str(batch),
        str(len(samples)),
        f"{median.value:.1f}",
        median.format_interval(),
        f"{throughput:.2f}",
        f"{throughput / first:.2f}",
    ]


def print_server(record: "BenchRecord", attempts: "Sequence[LoadResult]") -> None:
    """One row a rate, and the highest that kept the bound."""
    from ct3d_edge.latency.load_generator import best_load

    console, facts = out(), record.conditions
    tail, promise = facts["tail"], f"{facts['tail']} within {facts['bound_ms']:.0f} ms"
    table = _right_aligned(("scans a second", "of capacity", "requests", "p50, ms", f"{tail}, ms", promise))
    for load in sorted(attempts, key=lambda load: load.rate):
        table.add_row(*_rate_cells(load, facts["capacity_per_s"], facts["plan"]["requests"]))
    console.print(f"One after the other {facts['capacity_per_s']:.3g} scans a second; latencies from intended arrival:")
    console.print(table)
    answer = best_load(attempts)
    kept = "No rate tried" if answer is None else f"{answer.rate:.3g} scans a second is the highest rate tried that"
    console.print(f"{kept} keeps {promise}.")


def _rate_cells(load: "LoadResult", capacity: float, requests: int) -> list[str]:
    from ct3d_edge.latency.statistics import percentile

    return [
        f"{load.rate:.3g}",
        f"{load.rate / capacity:.0%}",
        str(len(load.latencies)),
        f"{percentile(load.latencies, 50).value:.1f}",
        f"{load.tail.value:.1f}",
        "yes" if load.holds else "no" if len(load.latencies) == requests else "no, given up",
    ]


def _right_aligned(titles: "Sequence[str]") -> Table:
    from ct3d_edge.report.table import plain_table

    table = plain_table()
    for title in titles:
        table.add_column(title, justify="right")
    return table


def percentile_table(sections: "Mapping[str, Mapping[str, Sequence[float]]]") -> Table:
    """One row a series, a column for each percentile that has enough samples, its 99 % interval below it."""
    from ct3d_edge.latency.statistics import standard_percentiles
    from ct3d_edge.report.table import plain_table

    rows = [
        [
            (name, [entry for entry in standard_percentiles(samples) if not entry.missing])
            for name, samples in series.items()
        ]
        for series in sections.values()
    ]
    table = plain_table()
    table.add_column(" / ".join(sections))
    for percentile in max((entries for section in rows for _, entries in section), key=len, default=[]):
        table.add_column(percentile.name, justify="right")
    for section in rows:
        for name, entries in section:
            cells = (f"{entry.value:.1f}\n{entry.format_interval()}" for entry in entries)
            table.add_row(Text(printable(name)), *cells)
        table.add_section()
    return table


def needs(console: Console, entries: "Sequence[Percentile]") -> None:
    """Say which percentiles are not shown, and what they would take."""
    console.print("Below each percentile its 99 % interval, by order statistics.")
    for entry in entries:
        if entry.missing:
            console.print(f"{entry.name} needs {entry.missing} more runs before it can be relied on.")


def line(console: Console, text: str) -> None:
    """A sentence, broken between words where it is too long."""
    console.print(Text(wrap(printable(text), console.width, 4)))


def print_record(record: "BenchRecord") -> None:
    """All series of a record with their percentiles, its profile, and warnings."""
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
        print_profile(record.conditions["profile"])
    needs(console, standard_percentiles(min(series.values(), key=len)))
    for name in record.headline_series:
        for warning in stability_warnings(series.get(name, ()), record.surroundings):
            line(console, f"{name}: {warning}")


PROFILE_COLUMNS = ("layer", "ms", "GFLOP", "of 3D", "GFLOP/s", "GB/s", "of the limit", "bound by")


def print_profile(told: dict[str, Any]) -> None:
    """One row a layer, what the ceilings are, and the verdict; from a record's ``profile``."""
    from ct3d_edge.report.table import plain_table

    console, ceilings = out(), told["ceilings"]
    line(
        console,
        f"Ceilings of {ceilings['threads']} threads: {ceilings['gflop_per_s']:.0f} GFLOP/s in a matrix product, "
        f"{ceilings['gb_per_s']:.1f} GB/s in a copy, by NumPy.",
    )
    table = plain_table()
    for title in PROFILE_COLUMNS:
        table.add_column(title, justify="left" if title in PROFILE_COLUMNS[::7] else "right")
    for name, layer in told["layers"].items():
        table.add_row(name, *_cells(layer))
    console.print(table)
    line(console, "of 3D: GFLOP of the 3D convolution that it stands for. bound by: the largest part of its time.")
    parts = told["parts_ms"]
    whole = sum(parts.values()) or 1.0
    shares = ", ".join(f"{name} {ms:.1f} ms ({ms / whole:.0%})" for name, ms in parts.items())
    line(console, f"The whole scan: {shares}. Bottleneck: {told['verdict']}.")


def _cells(layer: dict[str, Any]) -> list[str]:
    return [
        f"{layer['ms']:.1f}",
        f"{layer['gflop']:.2f}",
        f"{layer['gflop_of_3d_convolution']:.2f}",
        f"{layer['gflop_per_s']:.0f}",
        f"{layer['gb_per_s']:.1f}",
        f"{layer['of_limit']:.0%}",
        str(layer["verdict"]),
    ]
