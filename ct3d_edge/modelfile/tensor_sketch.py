"""Count sketches of tensors, by which a change is found, and the choice of the tensors of a graph to compare.

Each value gets a sign from its index and is added to one of 16 sums (a count sketch: Charikar, Chen & Farach-Colton
2002, "Finding frequent items in data streams"): the squared length of a change is preserved on average, wherever it is.
"""

import math
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import onnx
from msgspec import Meta
from numpy.typing import NDArray

from ct3d_edge.json_validation import Finite
from ct3d_edge.modelfile.golden_input import hash32
from ct3d_edge.modelfile.signature import POOLED_OUTPUT
from ct3d_edge.modelfile.tensor_memory import tensor_bytes

SKETCH_SIZE = 16
MAX_TENSORS = 6
"""Tensors along the graph; pooled features are compared besides."""

MAX_TENSOR_BYTES = 64_000_000
"""Bytes of a tensor that is compared: it is copied and read as a whole."""

SIGNIFICANT_DIGITS = 8
"""Of each value in the file."""

ACTIVATIONS = ("Sigmoid", "Softmax")
"""Operators that turn logits into probabilities."""

WEIGHT_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.INT8, onnx.TensorProto.UINT8)


@dataclass(frozen=True)
class TensorSketch:
    """The sketch of one tensor.

    Parameters
    ----------
    name
        In the graph.
    spread
        Expected standard deviation of a sum: that of the tensor's values over all inputs, times the square root of
        how many are added up.
    values
        ``(input, sum)``.
    """

    name: str
    spread: Annotated[float, Meta(gt=0, le=sys.float_info.max)]
    values: tuple[tuple[Finite, ...], ...]

    def difference(self, number: int, tensor: NDArray[Any]) -> float:
        """Largest difference of a sum of one input's tensor from the expected one, as a fraction of the spread.

        Infinite if there is another number of sums; NaN if a value is.
        """
        found, expected = count_sketch(tensor), np.asarray(self.values[number])
        if found.shape != expected.shape:
            return math.inf
        return float(np.abs(found - expected).max() / self.spread)


def count_sketch(tensor: NDArray[Any]) -> NDArray[np.float64]:
    """Value i, in C order, with the sign that is the lowest bit of ``hash32(i)``, is added to sum ``i % 16``."""
    flat = tensor.reshape(-1)
    padded = np.zeros(-(-flat.size // SKETCH_SIZE) * SKETCH_SIZE, np.float32)
    padded[: flat.size] = flat
    odd = hash32(np.arange(padded.size, dtype=np.uint32)) & np.uint32(1)
    np.negative(padded, out=padded, where=odd.astype(bool))
    with np.errstate(invalid="ignore"):  # of infinite values the sum is NaN
        return np.asarray(padded.reshape(-1, SKETCH_SIZE).sum(axis=0, dtype=np.float64)[: flat.size])


class TensorCollector:
    """Sketches a tensor of one input after the other, without storing it."""

    def __init__(self) -> None:
        self._rows: list[NDArray[np.float64]] = []
        self._size, self._sum, self._squares = 0, 0.0, 0.0

    def add(self, tensor: NDArray[Any]) -> None:
        """Add the tensor of the next input."""
        self._rows.append(count_sketch(tensor))
        self._size = tensor.size
        self._sum += float(tensor.sum(dtype=np.float64))
        self._squares += float(np.square(tensor, dtype=np.float64).sum())

    def sketch(self, name: str) -> TensorSketch | None:
        """The sketch; None of a tensor that is constant or not finite."""
        count = max(1, self._size * len(self._rows))
        if not math.isfinite(self._squares):
            return None
        variance = self._squares / count - (self._sum / count) ** 2
        spread = _round_significant(math.sqrt(max(0.0, variance) * max(1.0, self._size / SKETCH_SIZE)))
        values = tuple(tuple(map(_round_significant, row)) for row in self._rows)
        return TensorSketch(name, spread, values) if spread > 0 else None


def _round_significant(number: float) -> float:
    return float(f"{number:.{SIGNIFICANT_DIGITS}g}")


def choose_sensitive_tensors(proto: onnx.ModelProto, output: str) -> tuple[str, ...]:
    """Names of tensors to compare, in the graph's order: a few through which everything passes, and pooled features.

    The last one is the input of the final sigmoid or softmax; where the graph has neither, its output.
    """
    sizes = tensor_bytes(proto)
    found = [
        name
        for name in _bottleneck_tensors(proto.graph, output)
        if sizes.get(name, MAX_TENSOR_BYTES + 1) <= MAX_TENSOR_BYTES
    ]
    last = {name: node.op_type for node in proto.graph.node for name in node.output}.get(output)
    if last in ACTIVATIONS:
        found = [name for name in found if name != output]
    chosen = {found[n * (len(found) - 1) // max(MAX_TENSORS - 1, 1)] for n in range(MAX_TENSORS)} if found else set()
    return tuple(name for name in sizes if name in chosen or name == POOLED_OUTPUT)


def _bottleneck_tensors(graph: onnx.GraphProto, output: str) -> list[str]:
    """Tensors after the first weights on which alone the rest of the graph depends."""
    needed: dict[str, int] = {output: len(graph.node)}  # the last node towards the output that reads it
    for number, node in reversed(list(enumerate(graph.node))):
        if any(name in needed for name in node.output):
            for name in _names_read(node):
                needed.setdefault(name, number)
    weights = {tensor.name for tensor in graph.initializer if tensor.data_type in WEIGHT_TYPES and len(tensor.dims) > 1}
    live = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    weighted = False
    found: list[str] = []
    for number, node in enumerate(graph.node):
        read = _names_read(node)
        if live.intersection(read):
            weighted = weighted or bool(weights.intersection(read))
            live.update(node.output)
        elif weights.intersection(read):  # cast or dequantised
            weights.update(node.output)
        live = {name for name in live if needed.get(name, -1) > number}
        if weighted and len(live) == 1:
            found.extend(name for name in live if name in node.output)
    return found


def _names_read(node: onnx.NodeProto) -> list[str]:
    """Names that a node reads, those inside its subgraphs among them."""
    inside = [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]
    return [*node.input, *(name for graph in inside for inner in graph.node for name in _names_read(inner))]
