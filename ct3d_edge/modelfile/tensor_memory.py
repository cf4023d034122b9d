"""Bytes of the tensors that a model computes, and the memory of a run."""

from collections.abc import Mapping
from math import prod

import numpy as np
import onnx

FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def tensor_bytes(proto: onnx.ModelProto) -> dict[str, int]:
    """Floating-point tensors that nodes compute, in their order, and the bytes of each for one scan."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    known = {value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.output)}
    made = [name for node in _nodes_of_a_run(proto.graph) for name in node.output if name in known]
    return {
        name: prod(axis.dim_value or 1 for axis in known[name].shape.dim) * np.dtype(np.float32).itemsize
        for name in made
        if known[name].elem_type in FLOATS
    }


WORKSPACE_FACTOR = 1.25
"""What a run takes as a multiple of what goes into and comes out of its busiest operator: ONNX Runtime's CPU provider
unfolds convolutions, and its arena rounds up. The shipped network's first run added 619 MB where 504 MB go in and out,
with 1 and 2 threads alike; each further run at the same time added 495 to 523 MB, a batch of 2 1,237 MB."""


def estimate_run_bytes(data: bytes, input_shape: tuple[int, ...], batch: int = 1) -> int:
    """Bytes that one run takes while it lasts, roughly: those of the operator whose input and output are largest.

    A tensor whose shape cannot be inferred counts as nothing, but no run counts less than its input.

    Parameters
    ----------
    data
        The model file's bytes.
    input_shape
        Of one volume, without batch axis.
    batch
        Volumes run at once.
    """
    graph = onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(data)).graph
    sizes = _tensor_sizes(graph, batch)
    nodes = _nodes_of_a_run(graph)
    tensors = {value.name for value in graph.input} | {name for node in nodes for name in node.output}
    used = (sum(sizes.get(name, 0) for name in tensors & {*node.input, *node.output}) for node in nodes)
    busiest = max(used, default=0)
    return max(int(WORKSPACE_FACTOR * busiest), count_input_bytes(input_shape, batch))


def _nodes_of_a_run(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes that a run computes; ONNX Runtime computes those of constants alone when it opens a session."""
    constant = {"", *(tensor.name for tensor in graph.initializer)}
    nodes = []
    for node in graph.node:
        has_body = any(each.HasField("g") for each in node.attribute)  # a body may use what is not among the inputs
        if constant.issuperset(node.input) and not has_body:
            constant.update(node.output)
        else:
            nodes.append(node)
    return nodes


def count_input_bytes(input_shape: tuple[int, ...], batch: int = 1) -> int:
    """Bytes of a batch of network inputs, float32."""
    return 4 * batch * prod(input_shape)


def _tensor_sizes(graph: onnx.GraphProto, batch: int) -> Mapping[str, int]:
    """Tensor name to its bytes, as float32; the first axis is the batch where it has no fixed length."""
    sizes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if dims and all(dims[1:]):
            sizes[value.name] = 4 * (dims[0] or batch) * prod(dims[1:])
    return sizes
