"""Differences between the tensors of two graphs, and the first tensor beyond a limit."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.conversion.precision.tile_ranges import label_tensors
from ct3d_edge.formatting import plural
from ct3d_edge.modelfile.tensor_memory import tensor_bytes
from ct3d_edge.modelfile.tensor_sketch import ACTIVATIONS
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs

OpenIntermediateOutputs = Callable[[onnx.ModelProto, Sequence[str]], IntermediateOutputs]
"""Opens a session of a graph that gives the named tensors; the provider is chosen by the caller."""


@dataclass(frozen=True)
class TensorDifference:
    """Difference of one tensor from that of the reference.

    Parameters
    ----------
    tensor, node
        Its name, and the operator and name of the node that computes it.
    largest, mean
        Differences relative to the largest magnitude, over all volumes, of the reference; of a tile, to that of all
        tiles of its layer.
    """

    tensor: str
    node: str
    largest: float
    mean: float


@dataclass(frozen=True)
class TensorParity:
    """Result of comparing the tensors of two graphs.

    Parameters
    ----------
    compared, tensors
        Number of tensors that both graphs have under one name and shape, and of all in the reference; final
        probabilities count among the latter only.
    volumes
        Number of network inputs.
    worst
        The tensor with the largest difference; that is also the smallest limit that would have passed.
    mean
        The largest mean difference of a tensor.
    first
        Of the tensors beyond the limit, the one that comes first in the graph; None if there is none.
    limit
        For the largest difference.
    """

    compared: int
    tensors: int
    volumes: int
    worst: TensorDifference
    mean: float
    first: TensorDifference | None
    limit: float

    @property
    def passed(self) -> bool:
        """Whether no tensor is beyond the limit; False with a NaN."""
        return self.first is None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the provenance."""
        return asdict(self)

    def describe(self) -> str:
        """One line of text."""
        return (
            f"{self.compared} of {self.tensors} tensors compared on {plural(self.volumes, 'volume')}: largest "
            f"difference {self.worst.largest:.1e} of the tensor's range (limit {self.limit:.0e}) at {self.worst.node}, "
            f"largest mean difference {self.mean:.1e}"
        )


def compare_tensors(
    reference: onnx.ModelProto,
    found: onnx.ModelProto,
    batches: Iterable[NDArray[np.float32]],
    *,
    limit: float,
    open_outputs: OpenIntermediateOutputs = IntermediateOutputs,
) -> TensorParity:
    """Compare every floating-point tensor that both graphs have under one name.

    Final probabilities are left out if there is another: they have the limit of `ParityReport`, and where all are near
    0, a small error of a logit is a large part of them.

    Parameters
    ----------
    reference
        Runs on the CPU.
    found
        Runs where ``open_outputs`` opens it.
    batches
        One network input each, with its batch axis; at least one.
    limit
        Largest difference that passes, as a part of the largest magnitude of the reference's tensor.
    """
    known = tensor_bytes(reference)
    both = [name for name in tensor_bytes(found) if name in known]
    shared = [name for name in both if not _is_probability(reference, name)] or both
    expected, compared = IntermediateOutputs(reference, shared), open_outputs(found, shared)
    sums = {name: _DifferenceStats() for name in shared}
    volumes = 0
    for batch in batches:
        volumes += 1
        for (name, right), (_, value) in zip(expected.tensors(batch), compared.tensors(batch), strict=True):
            sums[name].add(right, value)
    scales = _layer_scales(reference, sums)
    differences = [
        sums[name].to_difference(name, describe_producer(reference, name), scales[name])
        for name in shared
        if sums[name].seen
    ]
    return TensorParity(
        compared=len(differences),
        tensors=len(known),
        volumes=volumes,
        worst=max(differences, key=lambda entry: np.inf if np.isnan(entry.largest) else entry.largest),
        mean=max(entry.mean for entry in differences),
        first=next((entry for entry in differences if not entry.largest <= limit), None),
        limit=limit,
    )


def _is_probability(proto: onnx.ModelProto, tensor: str) -> bool:
    """Whether a tensor is the output of the graph and that of a sigmoid or softmax."""
    return tensor == proto.graph.output[0].name and any(
        tensor in node.output and node.op_type in ACTIVATIONS for node in proto.graph.node
    )


def _layer_scales(reference: onnx.ModelProto, sums: Mapping[str, "_DifferenceStats"]) -> dict[str, float]:
    """Largest magnitude of each tensor; tiles of a layer have that of the whole, as they share a step in int8."""
    labels = label_tensors(reference)
    scales: dict[str, float] = {}
    for name, found in sums.items():
        label = labels.get(name, name)
        scales[label] = max(scales.get(label, 0.0), found.scale)
    return {name: scales[labels.get(name, name)] or 1.0 for name in sums}


@dataclass
class _DifferenceStats:
    """Differences of one tensor over all volumes, and its largest magnitude; tensors of other shapes are ignored."""

    largest: float = 0.0
    mean: float = 0.0
    scale: float = 0.0
    seen: int = 0

    def add(self, right: NDArray[Any], value: NDArray[Any]) -> None:
        if right.shape != value.shape or not right.size:
            return
        with np.errstate(invalid="ignore"):
            difference = np.abs(value.astype(np.float32, copy=False) - right)
        self.largest = float(np.maximum(self.largest, difference.max()))  # a NaN stays one
        self.mean += float(difference.mean())
        self.scale = max(self.scale, float(np.abs(right).max()))
        self.seen += 1

    def to_difference(self, tensor: str, node: str, scale: float) -> TensorDifference:
        return TensorDifference(tensor, node, self.largest / scale, self.mean / self.seen / scale)


def describe_producer(proto: onnx.ModelProto, tensor: str) -> str:
    """Operator and name of the node that computes a tensor."""
    (node,) = [node for node in proto.graph.node if tensor in node.output]
    return f"{node.op_type} {node.name or tensor}"
