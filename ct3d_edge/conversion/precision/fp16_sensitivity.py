"""Nodes that must not compute in float16: by their values on calibration volumes, and by the length of their sums."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ct3d_edge.conversion.passes.graph import constant_array, sample_shape
from ct3d_edge.conversion.passes.validate_graph import validate_graph
from ct3d_edge.conversion.precision.fp16 import to_fp16_array
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs

FP16_MAX = 65504.0
"""Largest number of float16 (IEEE 754-2019, binary16)."""

FP16_MIN_NORMAL = 2.0**-14
"""Below it float16 has fewer than eleven bits of precision."""

RANGE_MARGIN = 4.0
"""Other scans may reach this many times the values of the calibration volumes."""

MAX_SUBNORMAL_SHARE = 0.5
"""Share of values among subnormal numbers from which a tensor counts as lost."""

MAX_SUM_TERMS = 2**11
"""Terms of a mean or sum: 2048 + 1 is 2048 in float16, so that a running sum of equal terms stands still there."""

MAX_DOT_TERMS = 2**14
"""Terms of a dot product, whose errors add up like a random walk: the square root of 2^14, times 2^-11, is 1/16."""

SUM_OPS = frozenset({"ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare", "GlobalAveragePool"})
DOT_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass
class ValueRange:
    """Range of the values of a tensor.

    Parameters
    ----------
    largest
        Largest magnitude.
    values, subnormal_count
        Number of values that are not zero, and of those below the smallest normal number of float16.
    """

    largest: float = 0.0
    values: int = 0
    subnormal_count: int = 0

    def update(self, array: NDArray[np.float32]) -> None:
        """Take another tensor into account."""
        size = np.abs(array)
        self.largest = max(self.largest, float(size.max(initial=0.0)))
        self.values += int(np.count_nonzero(size))
        self.subnormal_count += int(np.count_nonzero((size > 0) & (size < FP16_MIN_NORMAL)))

    @property
    def mostly_subnormal(self) -> bool:
        """Whether most values would be subnormal."""
        return self.subnormal_count > MAX_SUBNORMAL_SHARE * self.values


def measure_ranges(proto: onnx.ModelProto, volumes: Iterable[NDArray[np.float32]]) -> dict[str, ValueRange]:
    """Ranges of all tensors over all volumes, each a network input with its batch axis; one volume at a time."""
    outputs = IntermediateOutputs(proto)
    ranges = {name: ValueRange() for name in outputs.names}
    for volume in volumes:
        for name, array in outputs.tensors(volume):
            ranges[name].update(array)
    return ranges


def find_fp16_sensitive_nodes(proto: onnx.ModelProto, ranges: dict[str, ValueRange]) -> dict[str, str]:
    """Nodes that must stay float32: name of the first output of each, and the reason."""
    model = validate_graph(proto)
    reasons = {str(node.outputs[0].name): _reason(node, ranges) for node in model.graph}
    return {name: reason for name, reason in reasons.items() if reason}


def _reason(node: ir.Node, ranges: dict[str, ValueRange]) -> str:
    if not any(value.dtype == ir.DataType.FLOAT for value in node.outputs):
        return ""
    if any(value.is_graph_output() for value in node.outputs):
        return "it computes the prediction"
    return _operator_reason(node) or _weights_reason(node) or _range_reason(node, ranges) or _depth_reason(node, ranges)


def _operator_reason(node: ir.Node) -> str:
    """An operator without float16 for each of its floating-point inputs and outputs."""
    schema = onnx.defs.get_schema(node.op_type, node.graph.opset_imports.get("", 18) if node.graph else 18)
    allowed = {rule.type_param_str: rule.allowed_type_strs for rule in schema.type_constraints}
    for given, declared in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for index, value in enumerate(given):
            parameter = declared[min(index, len(declared) - 1)]
            types = allowed.get(parameter.type_str, [parameter.type_str])
            if value is not None and value.dtype == ir.DataType.FLOAT and "tensor(float16)" not in types:
                return f"{node.op_type} does not take float16"
    inputs = [value.dtype for value in node.inputs if value is not None]
    return "" if ir.DataType.FLOAT in inputs else f"{node.op_type} makes float32 of something else"


def _weights_reason(node: ir.Node) -> str:
    for value in node.inputs:
        array = constant_array(value)
        if value is None or array is None or array.dtype != np.float32:
            continue
        if not np.isfinite(to_fp16_array(array)).all():
            return f"its constant {value.name} reaches {np.abs(array).max():.1e}, more than float16 holds"
        found = ValueRange()
        found.update(array)
        if found.mostly_subnormal:
            return (
                f"{found.subnormal_count} of {found.values} values of its constant {value.name} are "
                "subnormal in float16"
            )
    return ""


def _range_reason(node: ir.Node, ranges: dict[str, ValueRange]) -> str:
    """Range of its outputs and, since they are cast before it, of its inputs."""
    for verb, values in (("it reaches", node.outputs), ("it is given values up to", node.inputs)):
        for found in (ranges[str(value.name)] for value in values if value is not None and str(value.name) in ranges):
            if not found.largest * RANGE_MARGIN <= FP16_MAX:
                return f"{verb} {found.largest:.1e}; {FP16_MAX / RANGE_MARGIN:.1e} is safe"
            if found.mostly_subnormal:
                return (
                    f"{verb} {found.largest:.1e}, and {found.subnormal_count} of {found.values} are "
                    "subnormal in float16"
                )
    return ""


def _depth_reason(node: ir.Node, ranges: dict[str, ValueRange]) -> str:
    if node.op_type in SUM_OPS:
        return _sum_reason(node, ranges)
    weights = next((array for value in node.inputs[:2] if (array := constant_array(value)) is not None), None)
    data = next((value for value in node.inputs[:2] if constant_array(value) is None), None)
    if node.op_type not in DOT_OPS or weights is None or data is None:
        return ""
    terms = weights.size // max(_count_results(node, weights), 1)
    if terms > MAX_DOT_TERMS:
        return f"it adds up {terms} products; {MAX_DOT_TERMS} are safe"
    reach = _max_partial_sum(node, weights) * _max_magnitude(data, ranges)
    return f"its partial sums may reach {reach:.1e}; {FP16_MAX:.0f} is the most" if reach > FP16_MAX else ""


def _sum_reason(node: ir.Node, ranges: dict[str, ValueRange]) -> str:
    before, after = (sample_shape(value) if value is not None else None for value in (node.inputs[0], node.outputs[0]))
    if before is None or after is None or node.inputs[0] is None:
        return "it adds up an unknown number of values"
    terms = prod(before) // max(prod(after), 1)
    if terms > MAX_SUM_TERMS:
        return f"it adds up {terms} values; {MAX_SUM_TERMS} are safe"
    reach = terms * _max_magnitude(node.inputs[0], ranges)
    return f"its sum may reach {reach:.1e}; {FP16_MAX:.0f} is the most" if reach > FP16_MAX else ""


def _count_results(node: ir.Node, weights: NDArray[np.float32]) -> int:
    """Number of sums that a kernel or matrix computes from one window or row."""
    return int(weights.shape[_result_axis(node, weights)])


def _result_axis(node: ir.Node, weights: NDArray[np.float32]) -> int:
    """The axis of the weights along which results differ; the others are added up."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    first = constant_array(node.inputs[0]) is not None
    turned = bool(node.attributes["transB"].as_int()) if "transB" in node.attributes else False
    return weights.ndim - 2 if first or turned else weights.ndim - 1


def _max_partial_sum(node: ir.Node, weights: NDArray[np.float32]) -> float:
    """Largest sum of magnitudes: with inputs up to one, no partial sum of any order can be larger."""
    others = tuple(axis for axis in range(weights.ndim) if axis != _result_axis(node, weights))
    return float(np.abs(weights).sum(axis=others, dtype=np.float64).max(initial=0.0))


def _max_magnitude(value: ir.Value, ranges: dict[str, ValueRange]) -> float:
    """Magnitude of a tensor; the network's input lies in [0, 1]."""
    return ranges[str(value.name)].largest if str(value.name) in ranges else 1.0
