"""Where a scan's time goes, and how far each layer is from what the machine could do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.benchmark.layer_costs import Layer, bytes_of, flops_of, layers_of, needed_flops
from ct3d_edge.benchmark.peak_performance import Ceilings, measure_ceilings
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.providers.options import Options
from ct3d_edge.session.node_profile import NodeTimes, profile_nodes

Bound = Literal["compute", "memory", "overhead", "preprocessing", "decompression"]

OF_A_LAYER: tuple[Bound, ...] = ("compute", "memory", "overhead")
BETWEEN = "between operators"
BEYOND = "in turn with other work"
"""What running the network takes longer after reading a scan than again and again, answer included."""

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
    gflop, needed_gflop
        Billions of operations that it carries out, and of the 3D convolution that it stands for.
    gb
        Billions of bytes that its nodes cannot avoid to move.
    compute_floor_ms, memory_floor_ms
        What nodes bound by arithmetic, and those bound by memory, would take at the ceilings.
    """

    name: str
    nodes: int
    ms: float
    gflop: float
    needed_gflop: float
    gb: float
    compute_floor_ms: float
    memory_floor_ms: float

    @property
    def of_limit(self) -> float:
        """The time at the ceilings as a share of the time taken; above 1 where caches are faster than memory."""
        return (self.compute_floor_ms + self.memory_floor_ms) / self.ms if self.ms else 0.0

    @property
    def parts(self) -> dict[Bound, float]:
        """Its time in ms, divided: what arithmetic and memory take at the ceilings, and what is above that."""
        floors = self.compute_floor_ms + self.memory_floor_ms
        scale = min(1.0, self.ms / floors) if floors else 0.0
        return {
            "compute": scale * self.compute_floor_ms,
            "memory": scale * self.memory_floor_ms,
            "overhead": self.ms - scale * floors,
        }

    @property
    def verdict(self) -> Bound:
        """The largest part of its time."""
        return largest(self.parts)

    def to_dict(self) -> dict[str, Any]:
        """For a record."""
        return {
            "nodes": self.nodes,
            "ms": self.ms,
            "gflop": self.gflop,
            "gflop_of_3d_convolution": self.needed_gflop,
            "gb": self.gb,
            "gflop_per_s": 1e3 * self.gflop / self.ms if self.ms else 0.0,
            "gb_per_s": 1e3 * self.gb / self.ms if self.ms else 0.0,
            "parts_ms": dict(self.parts),
            "of_limit": self.of_limit,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class ScanProfile:
    """A scan's way from its file to its probability.

    Parameters
    ----------
    layers
        Of the network, in order.
    ceilings
        Of this machine.
    read_ms, preprocess_ms
        Medians of what stands before the network.
    """

    layers: tuple[LayerProfile, ...]
    ceilings: Ceilings
    read_ms: float
    preprocess_ms: float

    @property
    def parts(self) -> dict[Bound, float]:
        """The whole time, in ms, by what would have to be better."""
        return {
            "decompression": self.read_ms,
            "preprocessing": self.preprocess_ms,
            **{name: sum(layer.parts[name] for layer in self.layers) for name in OF_A_LAYER},
        }

    @property
    def verdict(self) -> Bound:
        """The largest part of the whole."""
        return largest(self.parts)

    def to_dict(self) -> dict[str, Any]:
        """For a record."""
        return {
            "ceilings": {
                "gflop_per_s": self.ceilings.gflops,
                "gb_per_s": self.ceilings.gb_per_s,
                "threads": self.ceilings.threads,
                "how": "NumPy: the fastest float32 matrix product, the fastest copy (bytes read and written)",
            },
            "layers": {layer.name: layer.to_dict() for layer in self.layers},
            "parts_ms": dict(self.parts),
            "verdict": self.verdict,
        }

    def roofline(self) -> dict[str, Any]:
        """What a page needs to draw: ceilings, and operations a byte and GFLOP/s of each layer that computes."""
        return {
            "gflop_per_s": self.ceilings.gflops,
            "gb_per_s": self.ceilings.gb_per_s,
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
        Durations in ms of ``read``, ``preprocess`` and ``infer``, taken before.
    threads, options
        Of the session; the ceilings are those of so many threads.
    """
    before = measure_ceilings(threads)
    found = profile_nodes(model, volume, runs, threads=threads, options=options)
    ceilings = before.or_better(measure_ceilings(threads))
    layers = tuple(profile_layer(layer, ceilings) for layer in layers_of(found.nodes))
    rest = median(run - sum(times) for run, times in zip(found.runs, _by_run(found.nodes), strict=True))
    beyond = median(stages["infer"]) - median(found.runs)
    ours = (_unexplained(BETWEEN, rest), _unexplained(BEYOND, beyond))
    return ScanProfile((*layers, *ours), ceilings, median(stages["read"]), median(stages["preprocess"]))


def _unexplained(name: str, ms: float) -> LayerProfile:
    """Time in which no operator ran."""
    return LayerProfile(name, 0, max(0.0, ms), 0.0, 0.0, 0.0, 0.0, 0.0)


def profile_layer(layer: Layer, ceilings: Ceilings) -> LayerProfile:
    """Add up the nodes of a layer; each is bound by whichever of arithmetic and memory takes longer."""
    compute = memory = 0.0
    for node in layer.nodes:
        arithmetic, moving = ceilings.floor_ms(flops_of(node), bytes_of(node))
        if arithmetic >= moving:
            compute += arithmetic
        else:
            memory += moving
    return LayerProfile(
        layer.name,
        len(layer.nodes),
        median(map(sum, _by_run(layer.nodes))),
        sum(map(flops_of, layer.nodes)) / 1e9,
        needed_flops(layer) / 1e9,
        sum(map(bytes_of, layer.nodes)) / 1e9,
        compute,
        memory,
    )


def _by_run(nodes: Sequence[NodeTimes]) -> list[tuple[float, ...]]:
    """The times of all nodes, run by run."""
    return list(zip(*(node.times for node in nodes), strict=True))


def largest(parts: Mapping[Bound, float]) -> Bound:
    """The name of the largest part."""
    return max(parts, key=lambda name: parts[name])
