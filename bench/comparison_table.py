"""Markdown of the record of a comparison: conditions, pictures, one table per question, who was left out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import markdown
from bench.fixture import KINDS
from bench.markdown import format_duration
from bench.pictures import draw_medians
from ct3d_edge.latency.compare import compare_percentile
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.stability import interference
from ct3d_edge.latency.statistics import percentile
from ct3d_edge.system.machine import CPU_FEATURES

COLUMNS = ("contestant", "ms, median (99 % interval)", "times our fastest", "largest difference", "peak memory, MB")
PRECISION_ORDER = ("fp32", "tf32", "fp16", "bf16", "int8")
TITLES = dict(
    zip(
        KINDS,
        ("A network input to its probability", "A scan file to a network input", "A scan file to its probability"),
        strict=True,
    )
)


def comparison_paragraphs(record: BenchRecord, pictures: Path, name: str) -> list[str]:
    """Paragraphs of a record of `bench.run_plan`; the pictures go to the folder."""
    shown = [f"![{title}](pictures/{path.name})" for title, path in draw_medians(record, pictures, name).items()]
    tables = [
        comparison_table(record, kind, precision) for kind in KINDS for precision in list_precisions(record, kind)
    ]
    return [describe_conditions(record), *shown, *tables, *list_excluded(record)]


def list_precisions(record: BenchRecord, kind: str) -> list[str]:
    """Precisions in which one question was answered, most bits first."""
    facts = [peer_facts(record, key) for key in record.samples.counted]
    there = {known.get("precision", "fp32") for known in facts if known["kind"] == kind}
    return sorted(there, key=PRECISION_ORDER.index)


def durations_of_class(record: BenchRecord, kind: str, precision: str) -> dict[str, tuple[float, ...]]:
    """Durations in ms of those who answered one question in one precision, the fastest first."""
    chosen = {
        key: taken
        for key, taken in record.samples.counted.items()
        if (known := peer_facts(record, key))["kind"] == kind and known.get("precision", "fp32") == precision
    }
    return dict(sorted(chosen.items(), key=lambda entry: percentile(entry[1], 50).value))


def peer_facts(record: BenchRecord, key: str) -> dict[str, Any]:
    """What the record knows of a contestant besides its durations."""
    found: dict[str, Any] = record.conditions["contestants"][key]
    return found


def our_fastest(record: BenchRecord, kind: str, precision: str) -> str | None:
    """The key of this project's fastest contestant; None where none ran. Of all precisions if the plan says so."""
    tried = list_precisions(record, kind) if record.conditions.get("across_precisions") else (precision,)
    keys = [key for one in tried for key in durations_of_class(record, kind, one) if peer_facts(record, key)["ours"]]
    return min(keys, key=lambda key: percentile(record.samples.counted[key], 50).value, default=None)


def comparison_table(record: BenchRecord, kind: str, precision: str) -> str:
    """One row a contestant, this project's in bold; the precision is named where there are several."""
    ours = our_fastest(record, kind, precision)
    rows = [comparison_row(record, key, ours) for key in durations_of_class(record, kind, precision)]
    title = f"{TITLES[kind]}, in {precision}" if len(list_precisions(record, kind)) > 1 else TITLES[kind]
    return f"**{title}**\n\n{markdown.markdown_table(COLUMNS, rows)}"


def comparison_row(record: BenchRecord, key: str, ours: str | None) -> list[str]:
    """Median, ratio, difference, memory."""
    known, taken = peer_facts(record, key), record.samples.counted[key]
    name = f"**{known['name']}**" if known["ours"] else known["name"]
    cells = [name, format_duration(taken), format_ratio(record, ours, key), f"{known['difference']:.1e}"]
    return [*cells, format_peak_memory(record, key)]


def format_ratio(record: BenchRecord, ours: str | None, key: str) -> str:
    """How many times as long as our fastest one it takes, with the interval; round by round if they ran in turn."""
    if ours is None or ours == key:
        return ""
    found = compare_percentile(
        record.samples.counted[ours], record.samples.counted[key], paired=record.arrangement == "in turn"
    )
    interval = "" if found.low is None or found.high is None else f" ({found.low:.2f}..{found.high:.2f})"
    return f"{found.ratio:.2f}{interval}"


def format_peak_memory(record: BenchRecord, key: str) -> str:
    """Peak of the process's resident memory; nothing where the system does not tell."""
    peak = record.resources.get(f"{key}, peak resident, bytes")
    return "" if peak is None else f"{peak / 1e6:.0f}"


def describe_conditions(record: BenchRecord) -> str:
    """Machine, amounts, versions, and what else happened, in a paragraph."""
    machine, given = record.environment, record.conditions
    found = {key: value for known in given["contestants"].values() for key, value in known["versions"].items()}
    versions = ", ".join(f"{name} {version}" for name, version in sorted(found.items()))
    said = [
        f"{describe_processor(machine)}, {machine['cores_usable']} cores, {given['threads']} threads each; "
        f"{len(given['scans'])} scans; rounds: {given['rounds']}, times in fresh processes: {given['groups']}; "
        f"{record.created[:10]}.",
        f"Versions: {versions}.",
    ]
    said += [f"Meanwhile {clause}." for clause in interference(record.surroundings)]
    return " ".join([*said, *([f"Incomplete: {record.incomplete}."] if record.incomplete else [])])


def describe_processor(machine: Mapping[str, Any]) -> str:
    """Its name and the vector and matrix units that decide which precision is fast; Arm's are not known by name."""
    flags = set(machine.get("cpu_flags") or ())
    has = {name: not flags.isdisjoint(known) for name, known in CPU_FEATURES.items()}
    if not any(has.values()):
        return str(machine["cpu"])
    absent = [name for name, there in has.items() if not there]
    units = ", ".join(name for name, there in has.items() if there) + (f"; no {', '.join(absent)}" if absent else "")
    return f"{machine['cpu']} ({units})"


def list_excluded(record: BenchRecord) -> list[str]:
    """Who did not run and why, as one list; empty if all did."""
    reasons = [f"- {key}: {reason}" for key, reason in record.conditions["left_out"].items()]
    return ["\n".join(["Left out:", "", *reasons])] if reasons else []
