"""How many of the tutorial's channels may pruning leave, so that the file is as fast as that of a light network?

    python -m bench.equal_latency [ROUNDS]

Light networks, and the tutorial's with fewer channels, at the input of the comparison of networks
(bench/plans/networks.toml), each with random weights as `export` writes it at level fast. All run in turn, on one
thread: at these few ms two would wait for each other. Every sample goes to bench/results/equal_latency.json.
"""

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.light import Subject, make_files, time_subjects
from bench.save_record import save_record
from bench.sessions import PACKAGES
from ct3d_edge.keras_backend import import_keras
from ct3d_edge.latency.compare import compare_percentile
from ct3d_edge.latency.measure import Samples
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import percentile
from ct3d_edge.system.machine import describe_machine

if TYPE_CHECKING:
    from ct3d_edge.training.network import NetworkSpec

PLAN = Path(__file__).parent / "plans" / "networks.toml"
ROUNDS, THREADS = 201, 1
LIGHT = ("narrow", "stem")
COUNTS = (
    "1-1-2-4",
    "4-4-8-16",
    "8-8-16-32",
    "12-12-24-48",
    "14-14-28-56",
    "16-16-32-64",
    "16-32-64-128",
    "18-18-36-72",
    "24-24-48-96",
    "32-32-64-128",
)
"""Channels left of 64-64-128-256: shares of each block, and those of `narrow`."""


def list_networks() -> "list[NetworkSpec]":
    """The tutorial's, the light ones, and the pruned ones."""
    from ct3d_edge.training.network import NETWORKS, TUTORIAL
    from ct3d_edge.training.pruning import keep_filters

    return [TUTORIAL, *(NETWORKS[name] for name in LIGHT), *(keep_filters(TUTORIAL, counts) for counts in COUNTS)]


def report(samples: Samples, subjects: Mapping[str, Subject]) -> list[str]:
    """One row a network: ms, times as long as each light one with the interval over rounds, weights."""
    rows = [f"| network | ms | of {' | of '.join(LIGHT)} | weights |", f"|---|---|{'---|' * len(LIGHT)}---|"]
    for name, taken in samples.counted.items():
        found = [compare_percentile(samples.counted[light], taken, paired=True) for light in LIGHT]
        ratios = [f"{one.ratio:.2f} ({one.low:.2f} to {one.high:.2f})" for one in found]
        weights = subjects[name].facts["weights"]
        rows.append(f"| {name} | {percentile(taken, 50).value:.2f} | {' | '.join(ratios)} | {weights:,} |")
    return rows


def make_subjects() -> dict[str, Subject]:
    """Name to file, at the input of the plan."""
    shape = tuple(tomllib.loads(PLAN.read_text(encoding="utf-8"))["size"])
    return {spec.name: make_files(spec, shape)[1] for spec in list_networks()}


def measure(subjects: Mapping[str, Subject], rounds: int) -> BenchRecord:
    """Time all in turn."""
    facts = {name: {**subject.facts, "input": subject.shape} for name, subject in subjects.items()}
    return BenchRecord(
        "Pruned networks against light ones: time of one network input",
        describe_machine(PACKAGES),
        {"threads": THREADS, "batch": 1, "subjects": facts},
        {},
        time_subjects(subjects, THREADS, rounds),
        arrangement="in turn",
    )


def main() -> None:
    """Measure, print the table and keep the record."""
    import_keras()
    subjects = make_subjects()
    record = measure(subjects, int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
    print("\n".join(report(record.samples, subjects)))
    save_record(record, "equal_latency")


if __name__ == "__main__":
    main()
