"""Convolutions, poolings and what lies between them in 8-bit integers; whatever works on vectors stays float32."""

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ct3d_edge.conversion.passes import Target
from ct3d_edge.conversion.passes.admission import admit
from ct3d_edge.conversion.passes.graph import MARK, rank
from ct3d_edge.errors import ModelError
from ct3d_edge.runtime.quantization import quantize

INTEGER = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators with multiplications to save."""

VECTORS = 2
"""Axes of a batch of vectors: a head of dense layers costs nothing, and eight bits of a probability are few."""


def largest_integer(target: Target) -> int:
    """Of a channel's weights: seven bits where pairs of products may be added in 16, eight elsewhere."""
    return 64 if target == "cpu" else 127


def to_int8(
    proto: onnx.ModelProto, batches: Iterable[NDArray[np.float32]], target: Target
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Quantise a rewritten graph.

    Returns
    -------
    tuple
        The graph with QuantizeLinear and DequantizeLinear where numbers change their form, and the nodes that stay
        float32, each with the reason.

    Raises
    ------
    ModelError
        There is nothing to quantise, the graph was made with minimal filtering, or ONNX Runtime cannot.
    """
    model = admit(proto)
    _require_unfiltered(model)
    for number, node in enumerate(model.graph):
        node.name = node.name or f"{node.op_type}.{number}"
    kept = {str(node.name): reason for node in model.graph if (reason := _reason(node))}
    left = {node.op_type for node in model.graph if node.name not in kept}
    if not left & INTEGER:
        raise ModelError("There is no convolution in this network to put into 8-bit integers. Use --precision fp16.")
    made = quantize(
        ir.to_proto(model), batches, exclude=kept, symmetric=target in ("cuda", "tensorrt"), seven_bits=target == "cpu"
    )
    del made.graph.value_info[:]
    return made, kept


def _require_unfiltered(model: ir.Model) -> None:
    """Minimal filtering adds and subtracts planes so that eight bits are not enough for what is between."""
    filtered = next((name for name in model.graph.initializers if f"{MARK}before." in name), None)
    if filtered is not None:
        raise ModelError(
            f"The file was made with minimal filtering ({filtered.split(MARK)[0]}), whose sums do not fit 8-bit "
            "integers. Start from the Keras model, or from a file made with --optimize none or exact."
        )


def _reason(node: ir.Node) -> str:
    """Why a node stays float32; empty if it need not."""
    if node.op_type in ("ReduceMax", "ReduceMin"):
        return "it compares numbers and multiplies none"
    if node.op_type.startswith("Reduce"):
        return "it adds up many values of which each would be rounded to eight bits"
    if all((axes := rank(value)) is not None and axes <= VECTORS for value in node.outputs):
        return "it works on vectors, where eight bits save nothing"
    return ""
