"""Latency of any callable: clocks, samples, percentiles, records. Knows nothing of CT."""

from ct3d_edge.latency.arrivals import (
    Load,
    best,
    highest_rate,
    hopeless_for,
    load_of,
    poisson_arrivals,
    serve,
    tail_rank,
)
from ct3d_edge.latency.clock import Clock, StageTimer, WallClock
from ct3d_edge.latency.compare import FEWEST, Change, compare
from ct3d_edge.latency.cost import EnergyMeter, peak_bytes, read_energy, resident_bytes
from ct3d_edge.latency.doubts import doubts
from ct3d_edge.latency.gate import Gate
from ct3d_edge.latency.gpu import GpuReading, read_gpus
from ct3d_edge.latency.history import Entry, Trend, read_history
from ct3d_edge.latency.measure import Samples, Taken, Until, interleave, measure
from ct3d_edge.latency.mismatch import obstacles, remarks
from ct3d_edge.latency.page import page
from ct3d_edge.latency.reading import read_record
from ct3d_edge.latency.record import Arrangement, BenchRecord
from ct3d_edge.latency.statistics import CONFIDENCE, RANKS, Percentile, enough, percentile, summary
from ct3d_edge.latency.steady import Steady, runs_until_steady
from ct3d_edge.latency.surroundings import Snapshot, Witness, disturbances, other_load, take_snapshot

__all__ = [
    "CONFIDENCE",
    "FEWEST",
    "RANKS",
    "Arrangement",
    "BenchRecord",
    "Change",
    "Clock",
    "EnergyMeter",
    "Entry",
    "Gate",
    "GpuReading",
    "Load",
    "Percentile",
    "Samples",
    "Snapshot",
    "StageTimer",
    "Steady",
    "Taken",
    "Trend",
    "Until",
    "WallClock",
    "Witness",
    "best",
    "compare",
    "disturbances",
    "doubts",
    "enough",
    "highest_rate",
    "hopeless_for",
    "interleave",
    "load_of",
    "measure",
    "obstacles",
    "other_load",
    "page",
    "peak_bytes",
    "percentile",
    "poisson_arrivals",
    "read_energy",
    "read_gpus",
    "read_history",
    "read_record",
    "remarks",
    "resident_bytes",
    "runs_until_steady",
    "serve",
    "summary",
    "tail_rank",
    "take_snapshot",
]
