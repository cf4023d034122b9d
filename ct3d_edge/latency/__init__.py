"""Latency of any callable: clocks, samples, percentiles, records. Knows nothing of CT."""
