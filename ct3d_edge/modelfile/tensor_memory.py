"""Tensors of a model file: number types of stored ones, bytes of computed ones, and the memory of a run."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from math import prod
from pathlib import Path

import numpy as np
import onnx
from onnx.external_data_helper import uses_external_data

from ct3d_edge.errors import ModelError

WEIGHT_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
}
"""Element types in which networks are stored."""


FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def iter_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in a graph, those in attributes and subgraphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_in_nodes(graph.node)


def _tensors_in_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for subgraph in (attribute.g, *attribute.graphs):
                yield from iter_tensors(subgraph)


def list_weight_types(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Types of stored numbers by the space they take; integers that are shapes and axes do not count."""
    sizes: Counter[str] = Counter()
    for tensor in iter_tensors(proto.graph):
        if tensor.data_type in WEIGHT_TYPES:
            sizes[WEIGHT_TYPES[tensor.data_type]] += tensor.ByteSize()
    return tuple(name for name, _ in sizes.most_common())


def reject_external_data(path: Path, proto: onnx.ModelProto) -> None:
    """A ``ModelError`` if some of the numbers are in other files."""
    in_functions = (_tensors_in_nodes(function.node) for function in proto.functions)
    outside = sum(map(uses_external_data, chain(iter_tensors(proto.graph), *in_functions)))
    if outside:
        raise ModelError(
            f"{path} keeps {outside} tensors in other files. Save it as one file "
            "(onnx.save_model with save_as_external_data=False), then export again."
        )


def tensor_bytes(proto: onnx.ModelProto) -> dict[str, int]:
    """Floating-point tensors that nodes compute, in their order, and the bytes of each for one scan."""
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    known = {value.name: value.type.tensor_type for value in (*inferred.value_info, *inferred.output)}
    made = [name for node in proto.graph.node for name in node.output if name in known]
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
    busiest = max(sum(sizes.get(name, 0) for name in {*node.input, *node.output}) for node in graph.node)
    return max(int(WORKSPACE_FACTOR * busiest), count_input_bytes(input_shape, batch))


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
