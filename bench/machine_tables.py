"""What records of `bench.machine` say, as Markdown: layers and their limits, threads and batches, rates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import markdown
from bench.machine_pictures import draw_layers, draw_rates, draw_sweep
from bench.markdown import format_duration
from ct3d_edge.benchmark.workload import ADDED_BY_FIRST_SCAN, ADDED_BY_SESSION, PEAK_RESIDENT
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.stability import interference
from ct3d_edge.latency.statistics import percentile

MEMORY = {
    ADDED_BY_SESSION: "added by the session",
    ADDED_BY_FIRST_SCAN: "by the first scan",
    PEAK_RESIDENT: "peak of the process",
}


def layer_paragraphs(record: BenchRecord, pictures: Path, name: str) -> list[str]:
    """Where the time of a scan goes, and how far each layer is from what the machine could do."""
    told = record.conditions["profile"]
    ceilings, parts = told["ceilings"], told["parts_ms"]
    draw_layers(told, pictures / f"{name}.svg")
    whole = sum(parts.values())
    shares = ", ".join(f"{part} {ms:.0f} ms ({ms / whole:.0%})" for part, ms in parts.items())
    columns = ("layer", "ms", "GFLOP", "of the 3D convolution's", "GFLOP/s", "GB/s", "of the limit", "bound by")
    return [
        describe_conditions(record),
        f"A scan: {shares}. Bottleneck: {told['verdict']}. Ceilings: {ceilings['gflop_per_s']:.0f} GFLOP/s in a matrix "
        f"product, {ceilings['gb_per_s']:.0f} GB/s in a copy, by NumPy.",
        f"![Where the time goes, and how far from the limit](pictures/{name}.svg)",
        markdown.markdown_table(columns, [_layer(entry, facts) for entry, facts in told["layers"].items()]),
        *memory_paragraphs(record),
    ]


def _layer(name: str, facts: dict[str, Any]) -> tuple[str, ...]:
    computes = facts["gflop"] > 0
    return (
        name,
        f"{facts['ms']:.1f}",
        f"{facts['gflop']:.2f}" if computes else "",
        f"{facts['gflop'] / facts['gflop_of_3d_convolution']:.2f}" if facts["gflop_of_3d_convolution"] else "",
        f"{facts['gflop_per_s']:.0f}" if computes else "",
        f"{facts['gb_per_s']:.1f}" if facts["gb"] else "",
        f"{facts['of_limit']:.0%}" if computes else "",
        str(facts["verdict"]),
    )


def memory_paragraphs(record: BenchRecord) -> list[str]:
    """One sentence of what the system told about memory and CPU time; empty if it told nothing."""
    known = {name: value for name, value in record.resources.items() if value is not None}
    said = [f"{words} {known[name] / 1e6:.0f} MB" for name, words in MEMORY.items() if name in known]
    return [f"Memory: {', '.join(said)}."] if said else []


def sweep_paragraphs(record: BenchRecord, pictures: Path, name: str) -> list[str]:
    """Batches from memory with each number of threads and each batch size."""
    taken = record.samples.counted
    made = {key: facts for key, facts in record.conditions["configurations"].items() if taken.get(key)}
    speed = {key: 1000 * facts["batch"] * len(taken[key]) / sum(taken[key]) for key, facts in made.items()}
    draw_sweep(
        [(facts["threads"], facts["batch"], speed[key]) for key, facts in made.items()], pictures / f"{name}.svg"
    )
    first = next(iter(speed.values()))
    rows = [
        (
            f"{facts['threads']}",
            f"{facts['batch']}",
            format_duration(taken[key]),
            f"{speed[key]:.2f}",
            f"{speed[key] / first:.2f}",
        )
        for key, facts in made.items()
    ]
    columns = ("threads", "batch", "ms a batch, median (99 % interval)", "scans a second", "of the first row")
    return [
        describe_conditions(record),
        f"![Scans a second by batch and threads](pictures/{name}.svg)",
        markdown.markdown_table(columns, rows),
    ]


def rate_paragraphs(record: BenchRecord, pictures: Path, name: str) -> list[str]:
    """Scans that arrive at random: latency from the intended arrival at each rate tried."""
    facts, taken = record.conditions, record.samples.counted
    tail, bound, wanted = facts["tail"], facts["bound_ms"], facts["plan"]["requests"]
    tried = sorted((float(key.split()[0]), key) for key in taken if key.endswith("scans a second"))
    points = [(rate, taken[key]) for rate, key in tried]
    rank = float(tail.removeprefix("p"))
    draw_rates([(rate, _at(times, 50), _at(times, rank)) for rate, times in points], facts, pictures / f"{name}.svg")
    rows = [
        (
            f"{rate:.3g}",
            f"{rate / facts['capacity_per_s']:.0%}",
            f"{_at(times, 50):.0f}",
            f"{_at(times, rank):.0f}" + ("" if len(times) == wanted else f" (given up after {len(times)})"),
        )
        for rate, times in points
    ]
    best = facts["highest_rate_per_s"]
    kept = "no rate tried" if best is None else f"{best:.3g} scans a second is the highest rate tried that"
    return [
        describe_conditions(record),
        f"One after the other it decides {facts['capacity_per_s']:.3g} scans a second; of scans that arrive at random, "
        f"{kept} keeps {tail} within {bound:.0f} ms of the intended arrival. {wanted} scans a rate.",
        f"![Latency by rate of arrival](pictures/{name}.svg)",
        markdown.markdown_table(("scans a second", "of capacity", "p50, ms", f"{tail}, ms"), rows),
    ]


def _at(times: Sequence[float], rank: float) -> float:
    return percentile(times, rank).value


def describe_conditions(record: BenchRecord) -> str:
    """Machine, provider, versions, and what else happened, in a paragraph."""
    machine, run_report = record.environment, record.conditions["receipt"]
    versions = ", ".join(f"{name} {version}" for name, version in run_report["versions"].items() if version)
    said = [
        f"{machine['cpu']}, {machine['cores_usable']} cores; provider {run_report['actual']}; {record.created[:10]}.",
        f"Versions: {versions}.",
        *(f"Meanwhile {clause}." for clause in interference(record.surroundings)),
        *([f"Incomplete: {record.incomplete}."] if record.incomplete else []),
    ]
    return " ".join(said)
