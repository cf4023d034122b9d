"""Store weights in float16 and compute in float32: half the file size, the same speed."""

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import constant_array
from ct3d_edge.conversion.passes.validate_graph import validate_graph
from ct3d_edge.conversion.precision.fp16 import FP16_SUFFIX, add_initializer, to_fp16_array
from ct3d_edge.conversion.precision.fp16_sensitivity import ValueRange

MIN_STORED_SIZE = 256
"""Number of values below which a Cast costs more bytes than it saves."""


def store_weights_fp16(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """Store float32 weights as float16 behind a Cast.

    Returns
    -------
    tuple
        The graph, and the weights that stay float32 because float16 does not hold them, each with the reason.

    Raises
    ------
    ModelError
        As `validate_graph`.
    """
    model = validate_graph(proto)
    fp32_weights = {}
    for value in list(_weights(model.graph)):
        reason = _reason(value)
        if reason:
            fp32_weights[str(value.name)] = reason
        else:
            _store(model.graph, value)
    ir.passes.common.RemoveUnusedNodesPass()(model)
    made = ir.to_proto(model)
    del made.graph.value_info[:]
    return made, fp32_weights


def _weights(graph: ir.Graph) -> Iterator[ir.Value]:
    for value in graph.initializers.values():
        array = constant_array(value)
        if array is not None and array.dtype == np.float32 and array.size >= MIN_STORED_SIZE and value.uses():
            yield value


def _reason(value: ir.Value) -> str:
    array = constant_array(value)
    if array is None:
        return "its values are not known"
    found = ValueRange()
    found.update(array)
    if not np.isfinite(to_fp16_array(array)).all():
        return f"it reaches {found.largest:.1e}, more than float16 holds"
    return (
        f"{found.subnormal_count} of {found.values} values are subnormal in float16" if found.mostly_subnormal else ""
    )


def _store(graph: ir.Graph, value: ir.Value) -> None:
    array = constant_array(value)
    stored = add_initializer(graph, f"{value.name}{FP16_SUFFIX}", to_fp16_array(np.asarray(array)))
    cast = ir.node("Cast", [stored], {"to": int(ir.DataType.FLOAT)}, name=f"{value.name}{FP16_SUFFIX}.cast")
    cast.outputs[0].name = cast.name
    cast.outputs[0].dtype, cast.outputs[0].shape = ir.DataType.FLOAT, value.shape
    ir.convenience.replace_all_uses_with(value, cast.outputs[0])
    graph.insert_before(graph[0], cast)
