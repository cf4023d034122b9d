"""Where a scan's time goes, and how far each layer is from what the machine could do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.benchmark.layer_costs import LayerNodes, count_bytes, count_direct_flops, count_flops, read_layers
from ct3d_edge.benchmark.peak_performance import PeakPerformance, measure_peak_performance
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.providers.options import Options
from ct3d_edge.session.node_profile import NodeTimes, profile_nodes

Bottleneck = Literal["compute", "memory", "overhead", "reading", "preprocessing", "record"]

LAYER_BOTTLENECKS: tuple[Bottleneck, ...] = ("compute", "memory", "overhead")
BETWEEN_OPERATORS = "between operators"
SCAN_OVERHEAD = "in turn with other work"
"""What running the network takes longer after reading a scan than again and again, prediction included."""

RUNS = 10


@dataclass(frozen=True)
class LayerProfile:
    """One layer, or time in which no operator ran.

    Parameters
    ----------
    name
        Of the layer.
    nodes
        How many the running graph has of it.
    ms
        Median over runs of the sum over its nodes.
    gflop, direct_gflop
        Billions of operations that it carries out, and of the 3D convolution that it stands for.
    gb
        Billions of bytes that its nodes cannot avoid to move.
    min_compute_ms, min_memory_ms
        What nodes bound by arithmetic, and those bound by memory, would take at the ceilings.
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
        """The time at the ceilings as a share of the time taken; above 1 where caches are faster than memory."""
        return (self.min_compute_ms + self.min_memory_ms) / self.ms if self.ms else 0.0

    @property
    def parts(self) -> dict[Bottleneck, float]:
        """Its time in ms, divided: what arithmetic and memory take at the ceilings, and what is above that."""
        floors = self.min_compute_ms + self.min_memory_ms
        scale = min(1.0, self.ms / floors) if floors else 0.0
        return {
            "compute": scale * self.min_compute_ms,
            "memory": scale * self.min_memory_ms,
            "overhead": self.ms - scale * floors,
        }

    @property
    def verdict(self) -> Bottleneck:
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
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class ScanProfile:
    """A scan's way from its file to its record.

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
        """The whole time, in ms, by what would have to be better."""
        return {
            "reading": self.read_ms,
            "preprocessing": self.preprocess_ms,
            "record": self.record_ms,
            **{name: sum(layer.parts[name] for layer in self.layers) for name in LAYER_BOTTLENECKS},
        }

    @property
    def verdict(self) -> Bottleneck:
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
            "verdict": self.verdict,
        }

    def roofline(self) -> dict[str, Any]:
        """What a page needs to draw: ceilings, and operations a byte and GFLOP/s of each layer that computes."""
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
    """Run the network with ONNX Runtime's profiler on, and measure the machine's ceilings.

    Parameters
    ----------
    volume
        A network input, ``contract.shape`` float32.
    stages
        Durations in ms of ``read``, ``preprocess``, ``infer`` and ``record``, measured before.
    threads, options
        Of the session; the ceilings are those of so many threads.
    """
    before = measure_peak_performance(threads)
    found = profile_nodes(model, volume, runs, threads=threads, options=options)
    ceilings = before.elementwise_max(measure_peak_performance(threads))
    layers = tuple(profile_layer(layer, ceilings) for layer in read_layers(found.nodes))
    rest = median(run - sum(times) for run, times in zip(found.runs, _by_run(found.nodes), strict=True))
    beyond = median(stages["infer"]) - median(found.runs)
    remainder = (_unattributed(BETWEEN_OPERATORS, rest), _unattributed(SCAN_OVERHEAD, beyond))
    around = (median(stages[name]) for name in ("read", "preprocess", "record"))
    return ScanProfile((*layers, *remainder), ceilings, *around)


def _unattributed(name: str, ms: float) -> LayerProfile:
    """Time in which no operator ran."""
    return LayerProfile(name, 0, max(0.0, ms), 0.0, 0.0, 0.0, 0.0, 0.0)


def profile_layer(layer: LayerNodes, ceilings: PeakPerformance) -> LayerProfile:
    """Add up the nodes of a layer; each is bound by whichever of arithmetic and memory takes longer."""
    compute = memory = 0.0
    for node in layer.nodes:
        arithmetic, moving = ceilings.min_times_ms(count_flops(node), count_bytes(node))
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
