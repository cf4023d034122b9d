"""Profile of a scan: the time of each stage and layer, and the distance of layers from the limits of the machine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.benchmark.roofline import (
    LayerNodes,
    PeakPerformance,
    count_bytes,
    count_direct_flops,
    count_flops,
    measure_peak_performance,
    read_layers,
)
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.providers.options import Options
from ct3d_edge.session.node_profile import NodeTimes, profile_nodes

Bottleneck = Literal["compute", "memory", "overhead", "reading", "preprocessing", "record"]

LAYER_BOTTLENECKS: tuple[Bottleneck, ...] = ("compute", "memory", "overhead")
BETWEEN_OPERATORS = "between operators"
SCAN_OVERHEAD = "in turn with other work"
"""Additional time of the network after reading a scan, compared with repeated runs; includes the prediction."""

RUNS = 10


@dataclass(frozen=True)
class LayerProfile:
    """One layer, or time in which no operator ran.

    Parameters
    ----------
    name
        Of the layer.
    nodes
        Number of its nodes in the running graph.
    ms
        Median over runs of the sum over its nodes.
    gflop, direct_gflop
        Billions of operations that it computes, and of the 3D convolution that it replaces.
    gb
        Billions of bytes that its nodes move at least.
    min_compute_ms, min_memory_ms
        Times of nodes bound by arithmetic, and of those bound by memory, at the limits of the machine.
    """

    name: str
    nodes: int
    ms: float
    gflop: float
    direct_gflop: float
    gb: float
    min_compute_ms: float
    min_memory_ms: float

    @property
    def roofline_fraction(self) -> float:
        """Time at the limits relative to the measured time; above 1 where caches are faster than memory."""
        return (self.min_compute_ms + self.min_memory_ms) / self.ms if self.ms else 0.0

    @property
    def parts(self) -> dict[Bottleneck, float]:
        """Its time in ms, divided: arithmetic and memory at the limits, and the rest."""
        least = self.min_compute_ms + self.min_memory_ms
        scale = min(1.0, self.ms / least) if least else 0.0
        return {
            "compute": scale * self.min_compute_ms,
            "memory": scale * self.min_memory_ms,
            "overhead": self.ms - scale * least,
        }

    @property
    def bottleneck(self) -> Bottleneck:
        """The largest part of its time."""
        return largest_part(self.parts)

    def to_dict(self) -> dict[str, Any]:
        """For a record."""
        return {
            "nodes": self.nodes,
            "ms": self.ms,
            "gflop": self.gflop,
            "gflop_of_3d_convolution": self.direct_gflop,
            "gb": self.gb,
            "gflop_per_s": 1e3 * self.gflop / self.ms if self.ms else 0.0,
            "gb_per_s": 1e3 * self.gb / self.ms if self.ms else 0.0,
            "parts_ms": dict(self.parts),
            "of_limit": self.roofline_fraction,
            "verdict": self.bottleneck,
        }


@dataclass(frozen=True)
class ScanProfile:
    """Profile of a scan from its file to its record.

    Parameters
    ----------
    layers
        Of the network, in order.
    peak_performance
        Of this machine.
    read_ms, preprocess_ms, record_ms
        Medians of the stages around the network.
    """

    layers: tuple[LayerProfile, ...]
    peak_performance: PeakPerformance
    read_ms: float
    preprocess_ms: float
    record_ms: float

    @property
    def parts(self) -> dict[Bottleneck, float]:
        """Total time in ms by cause."""
        return {
            "reading": self.read_ms,
            "preprocessing": self.preprocess_ms,
            "record": self.record_ms,
            **{name: sum(layer.parts[name] for layer in self.layers) for name in LAYER_BOTTLENECKS},
        }

    @property
    def bottleneck(self) -> Bottleneck:
        """The largest part of the whole."""
        return largest_part(self.parts)

    def to_dict(self) -> dict[str, Any]:
        """For a record."""
        return {
            "ceilings": {
                "gflop_per_s": self.peak_performance.gflops,
                "gb_per_s": self.peak_performance.gb_per_s,
                "threads": self.peak_performance.threads,
                "how": "NumPy: the fastest float32 matrix product, the fastest copy (bytes read and written)",
            },
            "layers": {layer.name: layer.to_dict() for layer in self.layers},
            "parts_ms": dict(self.parts),
            "verdict": self.bottleneck,
        }

    def roofline(self) -> dict[str, Any]:
        """Data of the roofline plot: limits, and operations per byte and GFLOP/s of each layer that computes."""
        return {
            "gflop_per_s": self.peak_performance.gflops,
            "gb_per_s": self.peak_performance.gb_per_s,
            "points": {
                layer.name: [layer.gflop / layer.gb, 1e3 * layer.gflop / layer.ms]
                for layer in self.layers
                if layer.gflop and layer.gb and layer.ms
            },
        }


def profile_scan(
    model: ModelFile,
    volume: NDArray[np.float32],
    stages: Mapping[str, Sequence[float]],
    threads: int,
    *,
    options: Options | None = None,
    runs: int = RUNS,
) -> ScanProfile:
    """Run the network under ONNX Runtime's profiler, and measure the limits of the machine.

    Parameters
    ----------
    volume
        A network input, ``contract.shape`` float32.
    stages
        Durations in ms of ``read``, ``preprocess``, ``infer`` and ``record``, measured before.
    threads, options
        Settings of the session; the limits are measured with the same number of threads.
    """
    before = measure_peak_performance(threads)
    profile = profile_nodes(model, volume, runs, threads=threads, options=options)
    limits = before.elementwise_max(measure_peak_performance(threads))
    layers = tuple(profile_layer(layer, limits) for layer in read_layers(profile.nodes))
    between = median(run - sum(times) for run, times in zip(profile.runs, _by_run(profile.nodes), strict=True))
    beyond = median(stages["infer"]) - median(profile.runs)
    unattributed = (_unattributed(BETWEEN_OPERATORS, between), _unattributed(SCAN_OVERHEAD, beyond))
    around = (median(stages[name]) for name in ("read", "preprocess", "record"))
    return ScanProfile((*layers, *unattributed), limits, *around)


def _unattributed(name: str, ms: float) -> LayerProfile:
    """Time in which no operator ran."""
    return LayerProfile(name, 0, max(0.0, ms), 0.0, 0.0, 0.0, 0.0, 0.0)


def profile_layer(layer: LayerNodes, limits: PeakPerformance) -> LayerProfile:
    """Add up the nodes of a layer; each is bound by arithmetic or memory, whichever takes longer."""
    compute = memory = 0.0
    for node in layer.nodes:
        arithmetic, moving = limits.min_times_ms(count_flops(node), count_bytes(node))
        if arithmetic >= moving:
            compute += arithmetic
        else:
            memory += moving
    return LayerProfile(
        layer.name,
        len(layer.nodes),
        median(map(sum, _by_run(layer.nodes))),
        sum(map(count_flops, layer.nodes)) / 1e9,
        count_direct_flops(layer) / 1e9,
        sum(map(count_bytes, layer.nodes)) / 1e9,
        compute,
        memory,
    )


def _by_run(nodes: Sequence[NodeTimes]) -> list[tuple[float, ...]]:
    """The times of all nodes, run by run."""
    return list(zip(*(node.times for node in nodes), strict=True))


def largest_part(parts: Mapping[Bottleneck, float]) -> Bottleneck:
    """The name of the largest part."""
    return max(parts, key=lambda name: parts[name])
