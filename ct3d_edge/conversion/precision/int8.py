"""Convolutions, poolings and what lies between them in 8-bit integers; whatever works on vectors stays float32."""

from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ct3d_edge.conversion.passes import Target
from ct3d_edge.conversion.passes.admission import admit
from ct3d_edge.conversion.passes.graph import rank
from ct3d_edge.errors import ModelError
from ct3d_edge.runtime.quantization import quantize

INTEGER = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators with multiplications to save."""

VECTORS = 2
"""Axes of a batch of vectors: a head of dense layers costs nothing, and eight bits of a probability are few."""


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
        There is nothing to quantise, or ONNX Runtime cannot.
    """
    model = admit(proto)
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


def _reason(node: ir.Node) -> str:
    """Why a node stays float32; empty if it need not."""
    if node.op_type in ("ReduceMax", "ReduceMin"):
        return "it compares numbers and multiplies none"
    if node.op_type.startswith("Reduce"):
        return "it adds up many values of which each would be rounded to eight bits"
    if all((axes := rank(value)) is not None and axes <= VECTORS for value in node.outputs):
        return "it works on vectors, where eight bits save nothing"
    return ""
