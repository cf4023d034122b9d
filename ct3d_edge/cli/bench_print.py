"""Print benchmark records: tables of percentiles, sweeps, rates, layers and comparisons, with notes below them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from ct3d_edge.cli.terminal import print_lines, stdout_console
from ct3d_edge.formatting import format_bytes, plural, printable
from ct3d_edge.latency.compare import PercentileChange
from ct3d_edge.latency.load_generator import LoadResult, best_load
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.stability import stability_warnings
from ct3d_edge.latency.statistics import percentile, standard_percentiles
from ct3d_edge.report.table import make_plain_table

Series = Mapping[str, Sequence[float]]
Comparison = Mapping[tuple[str, float], PercentileChange]
"""Series and rank of a percentile to its change."""

INTERVAL = "99 % interval"


def print_single(record: BenchRecord) -> None:
    """Print durations of what happens once, percentiles of stages and clocks, warnings, memory and energy."""
    series = record.series()
    stages = {name: series[name] for name in record.stages}
    clocks = {name: series[name] for name in record.clocks}
    once = ", ".join(f"{name} {value:.1f}" for name, value in record.once.items())
    print_lines([f"Once, in ms: {once}", *_describe_steady_state(record)])
    stdout_console().print(_percentile_table({"stage": stages, "clock": clocks}))
    print_lines(_describe_missing(record.samples.total))
    print_lines(stability_warnings(record.samples.total, record.surroundings))
    print_lines(_describe_amount(name, value) for name, value in record.resources.items())


def print_record(record: BenchRecord) -> None:
    """Print percentiles of all series of a record, its profile, and warnings."""
    print_lines([f"{record.question}, {record.created}"])
    if record.incomplete:
        print_lines([f"incomplete: {record.incomplete}"])
    series = {name: samples for name, samples in record.series().items() if samples}
    if not series:
        print_lines(["It has no counted runs."])
        return
    stdout_console().print(_percentile_table({"series, ms": series}))
    if "profile" in record.conditions:
        print_profile(record.conditions["profile"])
    print_lines(_describe_missing(min(series.values(), key=len)))
    _print_warnings(record, {name: series.get(name, ()) for name in record.headline_series})


def _describe_steady_state(record: BenchRecord) -> list[str]:
    """Runs of the steady state and of the warm-up, and a note if the precision was not reached."""
    counted, warmup = (len(next(iter(runs.values()), ())) for runs in (record.samples.counted, record.samples.warmup))
    steady = record.samples.steady_after
    found = "no steady level was found" if steady is None else f"steady after {steady}"
    lines = [f"Steady state, in ms: {plural(counted, 'run')} after {plural(warmup, 'warm-up run')} ({found})"]
    precision, target = percentile(record.samples.total, 50).precision, record.conditions.get("target_precision")
    if target and precision > target:
        lines.append(f"The time budget was spent: the median is known to ± {precision:.1%}, not to ± {target:.1%}.")
    return lines


def _describe_missing(samples: Sequence[float]) -> list[str]:
    """Percentiles that are not shown, and the number of runs that they need."""
    missing = [entry for entry in standard_percentiles(samples) if entry.missing]
    return [
        f"Below each percentile its {INTERVAL}, by order statistics.",
        *(f"{entry.name} needs {entry.missing} more runs." for entry in missing),
    ]


def _describe_amount(name: str, value: float | None) -> str:
    if value is None:
        return f"{name.rpartition(',')[0] or name}: unknown on this system"
    if name.endswith(", bytes"):
        return f"{name.removesuffix(', bytes')}: {format_bytes(value)}"
    return f"{name}: {value:.3f}"


def _print_warnings(record: BenchRecord, series: Series) -> None:
    for name, samples in series.items():
        print_lines(f"{name}: {warning}" for warning in stability_warnings(samples, record.surroundings))


def _percentile_table(sections: Mapping[str, Series]) -> Table:
    """One row a series, a column for each percentile that has enough samples, its 99 % interval below it."""
    rows = [
        {
            name: [entry for entry in standard_percentiles(samples) if not entry.missing]
            for name, samples in part.items()
        }
        for part in sections.values()
    ]
    longest = max((entries for part in rows for entries in part.values()), key=len, default=[])
    table = _table([" / ".join(sections)], [entry.name for entry in longest])
    for part in rows:
        for name, entries in part.items():
            cells = (f"{entry.value:.1f}\n{entry.format_interval()}" for entry in entries)
            table.add_row(Text(printable(name)), *cells)
        table.add_section()
    return table


def _table(left: Iterable[str], right: Iterable[str]) -> Table:
    """A table with columns that are aligned to the left, then to the right."""
    table = make_plain_table()
    for title in left:
        table.add_column(title)
    for title in right:
        table.add_column(title, justify="right")
    return table


def print_sweep(record: BenchRecord) -> None:
    """Print one row per configuration: median with interval, scans per second, and their ratio to the first row."""
    table = _table(
        [], ("threads", "batch", "runs", "median of a batch, ms", INTERVAL, "scans a second", "of the first")
    )
    first = None
    for name, facts in record.conditions["configurations"].items():
        samples = record.samples.counted.get(name)
        if samples:
            throughput = 1000 * facts["batch"] * len(samples) / sum(samples)
            first = first or throughput
            threads, median = facts["threads"] or record.conditions["receipt"]["threads"], percentile(samples, 50)
            cells = (f"{median.value:.1f}", median.format_interval(), f"{throughput:.2f}", f"{throughput / first:.2f}")
            table.add_row(str(threads), str(facts["batch"]), str(len(samples)), *cells)
    print_lines(["Prepared scans from memory to their probabilities; scans a second over all counted runs."])
    stdout_console().print(table)
    _print_warnings(record, record.samples.counted)


def print_server(record: BenchRecord, attempts: Sequence[LoadResult]) -> None:
    """Print one row per rate, and the highest rate within the bound."""
    facts = record.conditions
    tail, capacity = facts["tail"], facts["capacity_per_s"]
    bound = f"{tail} within {facts['bound_ms']:.0f} ms"
    table = _table([], ("scans a second", "of capacity", "requests", "p50, ms", f"{tail}, ms", bound))
    for load in sorted(attempts, key=lambda load: load.rate):
        complete = len(load.latencies) == facts["plan"]["requests"]
        table.add_row(
            f"{load.rate:.3g}",
            f"{load.rate / capacity:.0%}",
            str(len(load.latencies)),
            f"{percentile(load.latencies, 50).value:.1f}",
            f"{load.tail.value:.1f}",
            "yes" if load.holds else "no" if complete else "no, given up",
        )
    print_lines([f"One after the other {capacity:.3g} scans a second; latencies from intended arrival:"])
    stdout_console().print(table)
    best = best_load(attempts)
    rate = "No rate tried" if best is None else f"{best.rate:.3g} scans a second is the highest rate tried that"
    print_lines([f"{rate} keeps {bound}."])


def print_profile(profile: Mapping[str, Any]) -> None:
    """Print one row per layer, the limits of the machine, and the bottleneck, from the ``profile`` of a record."""
    limits, parts = profile["ceilings"], profile["parts_ms"]
    table = _table(["layer"], ("ms", "GFLOP", "of 3D", "GFLOP/s", "GB/s", "of the limit"))
    table.add_column("bound by")
    for name, layer in profile["layers"].items():
        table.add_row(
            name,
            f"{layer['ms']:.1f}",
            f"{layer['gflop']:.2f}",
            f"{layer['gflop_of_3d_convolution']:.2f}",
            f"{layer['gflop_per_s']:.0f}",
            f"{layer['gb_per_s']:.1f}",
            f"{layer['of_limit']:.0%}",
            str(layer["verdict"]),
        )
    print_lines(
        [
            f"Limits of {limits['threads']} threads: {limits['gflop_per_s']:.0f} GFLOP/s in a matrix product, "
            f"{limits['gb_per_s']:.1f} GB/s in a copy, by NumPy."
        ]
    )
    stdout_console().print(table)
    whole = sum(parts.values()) or 1.0
    shares = ", ".join(f"{name} {ms:.1f} ms ({ms / whole:.0%})" for name, ms in parts.items())
    print_lines(
        [
            "of 3D: GFLOP of the 3D convolution that it replaces. bound by: the largest part of its time.",
            f"The whole scan: {shares}. Bottleneck: {profile['verdict']}.",
        ]
    )


def print_comparison(changes: Comparison) -> None:
    """Print one row per percentile; of those above the median the ones with enough runs."""
    table = _table(["series"], ("", "first, ms", "second, ms", "ratio", INTERVAL))
    table.add_column("result")
    for (name, rank), change in changes.items():
        if not change.missing or rank <= 50:
            interval = "-" if change.low is None else f"{change.low:.3f}..{change.high:.3f}"
            values = (f"{change.before:.1f}", f"{change.after:.1f}", f"{change.ratio:.3f}", interval)
            table.add_row(Text(printable(name)), f"p{rank:g}", *values, change.describe())
    stdout_console().print(table)
    paired = next(iter(changes.values())).paired
    print_lines(["Paired, round by round." if paired else "Unpaired: block bootstrap, 4000 resamples, seed 0."])
