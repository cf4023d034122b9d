"""A scan file to its probability, timed: one at a time, in batches, under load; and what it costs besides time."""

from ct3d_edge.benchmark.breaking_off import BrokenOffError, keep_what_was_taken
from ct3d_edge.benchmark.ceilings import Ceilings, measure_ceilings
from ct3d_edge.benchmark.profile import LayerProfile, ScanProfile, profile_scan
from ct3d_edge.benchmark.resources import Job, measure_resources
from ct3d_edge.benchmark.server import ServerPlan, measure_server
from ct3d_edge.benchmark.single import Plan, measure_single
from ct3d_edge.benchmark.sweep import Configuration, configurations, measure_sweep
from ct3d_edge.benchmark.workload import CLOCKS, RESIDENT, ScanToDecision, bench_scans, network_input

__all__ = [
    "CLOCKS",
    "RESIDENT",
    "BrokenOffError",
    "Ceilings",
    "Configuration",
    "Job",
    "LayerProfile",
    "Plan",
    "ScanProfile",
    "ScanToDecision",
    "ServerPlan",
    "bench_scans",
    "configurations",
    "keep_what_was_taken",
    "measure_ceilings",
    "measure_resources",
    "measure_server",
    "measure_single",
    "measure_sweep",
    "network_input",
    "profile_scan",
]
