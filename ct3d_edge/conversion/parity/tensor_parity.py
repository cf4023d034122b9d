"""Two graphs and the tensors that both have: how far apart they are, and where that begins."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.formatting import plural
from ct3d_edge.modelfile.tensor_memory import tensor_bytes
from ct3d_edge.modelfile.tensor_sketch import ACTIVATIONS
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs

OpenIntermediateOutputs = Callable[[onnx.ModelProto, Sequence[str]], IntermediateOutputs]
"""A graph and names of its tensors to an open session that gives them: where it runs is decided before."""


@dataclass(frozen=True)
class TensorDifference:
    """How far one tensor lies from what it should be.

    Parameters
    ----------
    tensor, node
        Its name, and the operator and name of the node that gives it.
    largest, mean
        Differences as a part of the largest magnitude, over all volumes, of the tensor that it is compared with.
    """

    tensor: str
    node: str
    largest: float
    mean: float


@dataclass(frozen=True)
class TensorParity:
    """What comparing the tensors of two graphs gave.

    Parameters
    ----------
    compared, tensors
        Number of tensors that both graphs have under one name and shape, and of all in the reference; final
        probabilities count among the latter only.
    volumes
        On how many network inputs.
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
        """Whether no tensor is beyond the limit; never with a NaN."""
        return self.first is None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the provenance."""
        return asdict(self)

    def describe(self) -> str:
        """One line for people."""
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
    taps = IntermediateOutputs(reference, shared), open_outputs(found, shared)
    sums = {name: _DifferenceStats() for name in shared}
    volumes = 0
    for batch in batches:
        volumes += 1
        for (name, right), (_, value) in zip(taps[0].tensors(batch), taps[1].tensors(batch), strict=True):
            sums[name].add(right, value)
    gaps = [sums[name].to_difference(name, describe_producer(reference, name)) for name in shared if sums[name].seen]
    return TensorParity(
        compared=len(gaps),
        tensors=len(known),
        volumes=volumes,
        worst=max(gaps, key=lambda gap: np.inf if np.isnan(gap.largest) else gap.largest),
        mean=max(gap.mean for gap in gaps),
        first=next((gap for gap in gaps if not gap.largest <= limit), None),
        limit=limit,
    )


def _is_probability(proto: onnx.ModelProto, tensor: str) -> bool:
    """Whether a tensor is the output of the graph and that of a sigmoid or softmax."""
    return tensor == proto.graph.output[0].name and any(
        tensor in node.output and node.op_type in ACTIVATIONS for node in proto.graph.node
    )


@dataclass
class _DifferenceStats:
    """Differences of one tensor over all volumes, and its own largest magnitude; tensors of two shapes are not one."""

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

    def to_difference(self, tensor: str, node: str) -> TensorDifference:
        scale = self.scale or 1.0
        return TensorDifference(tensor, node, self.largest / scale, self.mean / self.seen / scale)


def describe_producer(proto: onnx.ModelProto, tensor: str) -> str:
    """Operator and name of the node that gives a tensor."""
    (node,) = [node for node in proto.graph.node if tensor in node.output]
    return f"{node.op_type} {node.name or tensor}"
