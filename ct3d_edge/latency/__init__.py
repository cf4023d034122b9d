"""Latency of any callable: clocks, samples, percentiles, records. Knows nothing of CT."""

from ct3d_edge.latency.clock import Clock, StageTimer, WallClock
from ct3d_edge.latency.measure import Samples, interleave, measure
from ct3d_edge.latency.record import BenchRecord
from ct3d_edge.latency.statistics import Percentile, percentile, summary

__all__ = [
    "BenchRecord",
    "Clock",
    "Percentile",
    "Samples",
    "StageTimer",
    "WallClock",
    "interleave",
    "measure",
    "percentile",
    "summary",
]
