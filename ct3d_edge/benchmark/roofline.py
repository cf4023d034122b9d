"""Roofline model of a network: operations and bytes of its layers, and peak performance of this machine.

ONNX Runtime fuses and adds nodes; passes split layers. Layers are recognised by the names of nodes: tf2onnx names a
convolution ``Conv__45`` and everything else after its Keras layer (``3dcnn_1/conv3d_17_1/Relu``); a pass appends
``/ct3d.`` to the name of the node that it rewrites.
"""

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ct3d_edge.session.node_profile import NodeTimes
from ct3d_edge.system.process_pool import map_in_processes

VIEW_OPERATORS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
"""Operators that change the shape and move no bytes."""

SLICE_OPERATORS = ("Slice", "Gather")
"""Operators that read as many bytes as they write."""

MATMUL_OPERATORS = ("MatMul", "Gemm", "FusedGemm", "FusedMatMul")
MEAN_OPERATORS = ("ReduceMean", "GlobalAveragePool")
HEAD_LAYER = "head"
WHOLE_NETWORK = "network"
PASS_SUFFIX = re.compile(r"/ct3d[./].*$|:\d+(_nchwc)?$|_nchwc$")
TF2ONNX_CONV_NAME = re.compile(r"^Conv__\d+$")


@dataclass(frozen=True)
class LayerNodes:
    """Nodes of one layer: a convolution with its activation and pooling, or the head after the last one.

    Parameters
    ----------
    name
        Name of the Keras layer, if a node still has it.
    nodes
        In the order of execution.
    """

    name: str
    nodes: tuple[NodeTimes, ...]


def read_layers(nodes: Sequence[NodeTimes]) -> tuple[LayerNodes, ...]:
    """Group nodes by convolution, with its pooling, activation, normalisation and transforms.

    A node belongs to the convolution whose name it has, otherwise to that of the node before it.
    """
    if not any(map(is_convolution, nodes)):
        return (LayerNodes(WHOLE_NETWORK, tuple(nodes)),)
    groups: dict[str, list[NodeTimes]] = {}
    for node, key in zip(nodes, _layer_keys(nodes), strict=True):
        groups.setdefault(key, []).append(node)
    return tuple(LayerNodes(_layer_title(key, members), tuple(members)) for key, members in groups.items())


def _layer_keys(nodes: Sequence[NodeTimes]) -> Iterator[str]:
    convolutions = [index for index, node in enumerate(nodes) if is_convolution(node)]
    known = {layer_name(nodes[index].name) for index in convolutions}
    upcoming = [layer_name(nodes[index].name) for index in convolutions]
    current, last = upcoming[0], convolutions[-1]
    for index, node in enumerate(nodes):
        if is_convolution(node):
            upcoming.pop(0)
        name = layer_name(node.name)
        if name in known:
            current = name
        elif TF2ONNX_CONV_NAME.match(name) and upcoming:
            current = upcoming[0]  # its convolution was fused and has the name of the activation
        elif index > last and (node.operator in MEAN_OPERATORS or node.operator in MATMUL_OPERATORS):
            current = HEAD_LAYER
        yield current


def layer_name(name: str) -> str:
    """``conv3d_17`` of ``3dcnn_1/conv3d_17_1/Relu/ct3d.146:0_nchwc``, ``Conv__45`` of ``Conv__45/ct3d.76``."""
    parts = PASS_SUFFIX.sub("", name.removeprefix("fused ")).split("/")
    return re.sub(r"_\d+$", "", parts[1]) if len(parts) > 2 else parts[0]


def _layer_title(key: str, members: Sequence[NodeTimes]) -> str:
    """Keras name of a convolution with a name of tf2onnx, if one of its nodes still has it."""
    names = [layer_name(node.name) for node in members] if TF2ONNX_CONV_NAME.match(key) else []
    return next((name for name in names if name.startswith("conv")), key)


def is_convolution(node: NodeTimes) -> bool:
    """Whether a node is a convolution, fused or not, or the matrix product of a Winograd convolution."""
    return ("Conv" in node.operator and len(node.inputs) > 1) or _is_winograd_matmul(node)


def _is_winograd_matmul(node: NodeTimes) -> bool:
    """``(N, points, tiles, inputs) @ (points, inputs, outputs)``."""
    ranks = [len(shape) for shape in node.inputs]
    return node.operator == "MatMul" and ranks == [4, 3] and node.inputs[0][1] == node.inputs[1][0] > 1


def count_flops(node: NodeTimes) -> float:
    """Operations that a node computes: two for each multiply-add; 0 for all other operators."""
    if is_convolution(node) and not _is_winograd_matmul(node):
        return 2.0 * math.prod(node.outputs[0]) * math.prod(node.inputs[1][1:])
    if node.operator in MATMUL_OPERATORS:
        return 2.0 * math.prod(node.outputs[0]) * _reduction_length(node)
    return 0.0


def _reduction_length(node: NodeTimes) -> int:
    """Length of the axis that a product sums over: the last one of its first factor."""
    return node.inputs[0][-1] if node.inputs and node.inputs[0] else 1


def count_bytes(node: NodeTimes) -> int:
    """Bytes that a node moves at least: each input and weight read once, each output written once."""
    if node.operator in VIEW_OPERATORS:
        return 0
    if node.operator in SLICE_OPERATORS:
        return 2 * node.output_bytes
    return node.input_bytes + node.output_bytes


def count_direct_flops(layer: LayerNodes) -> float:
    """Operations of the 3D convolutions that a layer replaces.

    Winograd convolution needs m * r / (m + r - 1) times fewer along each of its axes; its last step along each is a
    product with a constant matrix ``(m, m + r - 1)``. Everything else needs as many as a 3D convolution, including
    planes that are cut off afterwards.
    """
    saved = 1.0
    total = 0.0
    for node in reversed(layer.nodes):
        if (
            node.operator in MATMUL_OPERATORS
            and len(node.inputs[0]) == 2
            and len(node.inputs[1:2])
            and _is_output_transform(node)
        ):
            points, transformed = node.inputs[0]
            saved *= points * (transformed - points + 1) / transformed
        elif is_convolution(node):
            total += saved * count_flops(node)
            saved = 1.0
    return total


def _is_output_transform(node: NodeTimes) -> bool:
    """Whether a product returns fewer planes than it takes; the input transform does not."""
    rows, columns = node.inputs[0]
    return len(node.inputs[1]) == 3 and rows < columns and node.inputs[1][-2] == columns


THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Read by the libraries of NumPy's matrix product only when they are loaded."""

MATRIX_SIDE = 2048
COPY_BYTES = 1 << 28
"""Larger than the caches of any CPU, so that memory is measured."""

REPEATS = 7


@dataclass(frozen=True)
class PeakPerformance:
    """Measured peak throughput of this machine.

    Parameters
    ----------
    gflops
        Billions of float32 operations a second in a matrix product.
    gb_per_s
        Billions of bytes a second, read and written, in a copy.
    threads
        Threads of both measurements.
    """

    gflops: float
    gb_per_s: float
    threads: int

    def min_times_ms(self, flops: float, moved_bytes: float) -> tuple[float, float]:
        """Times that arithmetic and memory would take at these limits, in ms."""
        return flops / self.gflops / 1e6, moved_bytes / self.gb_per_s / 1e6

    def elementwise_max(self, other: "PeakPerformance") -> "PeakPerformance":
        """The maximum of each: other work on the machine can only lower a measurement."""
        return PeakPerformance(max(self.gflops, other.gflops), max(self.gb_per_s, other.gb_per_s), self.threads)


def measure_peak_performance(threads: int, *, side: int = MATRIX_SIDE, copied: int = COPY_BYTES) -> PeakPerformance:
    """Measure in a new process: the number of threads of a matrix product is fixed when NumPy is imported.

    Parameters
    ----------
    side
        Of the square matrices.
    copied
        Bytes of the array that is copied.
    """
    with _thread_variables(threads):
        (peak,) = map_in_processes(_measure, [(threads, side, copied)], 1, afresh=True)
    return peak


def _measure(job: tuple[int, int, int]) -> PeakPerformance:
    threads, side, copied = job
    return PeakPerformance(_product_gflops(side), _copy_gb_per_s(threads, copied), threads)


def _product_gflops(side: int) -> float:
    rng = np.random.default_rng(0)
    left, right = (rng.random((side, side), np.float32) for _ in range(2))
    result = np.empty_like(left)
    return 2 * side**3 / _fastest_s(lambda: np.matmul(left, right, out=result)) / 1e9


def _copy_gb_per_s(threads: int, copied: int) -> float:
    source, target = np.ones(copied, np.uint8), np.zeros(copied, np.uint8)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:  # NumPy lets other threads run while it copies

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))

        return 2 * copied / _fastest_s(copy) / 1e9


def _fastest_s(work: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


@contextmanager
def _thread_variables(threads: int) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
