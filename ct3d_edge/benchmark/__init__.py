"""A scan file to its probability, timed: one at a time, in batches, under load; and what it costs besides time."""

from ct3d_edge.benchmark.breaking_off import BrokenOffError
from ct3d_edge.benchmark.single import Plan, measure_single
from ct3d_edge.benchmark.workload import CLOCKS, RESIDENT, ScanToDecision, bench_scans, network_input

__all__ = [
    "CLOCKS",
    "RESIDENT",
    "BrokenOffError",
    "Plan",
    "ScanToDecision",
    "bench_scans",
    "measure_single",
    "network_input",
]
