"""Kernels of minimal filtering are stored as they were trained, and transformed when a session opens.

::

    weights (216, C, O)        ->        MatMul(transform (216, 27), kernels (27, C * O)) ─ Reshape (216, C, O)

A transformed kernel is a small known matrix times the kernel, up to nineteen times as large. ONNX Runtime computes what
depends on constants alone once, when it opens a session. So the network that runs is the same, and the file is as small
as it was before its rewriting.

Transformed kernels are recognised by their numbers: only multiples of a transform leave no residual of its
least-squares solution. So files that were written before are reduced as well.
"""

from collections.abc import Iterator
from functools import cache, reduce
from itertools import product

import numpy as np
import onnx
from onnx import numpy_helper

from ct3d_edge.conversion.passes.graph import Array
from ct3d_edge.conversion.passes.lower_conv3d.winograd_depth import TAPS, TILE_SIZES
from ct3d_edge.conversion.passes.lower_conv3d.winograd_matrices import make_winograd_matrices

MIN_SAVED_BYTES = 65_536
"""Less is not worth two more nodes in the file."""

MAX_RESIDUAL = 3e-7
"""Of a tensor's largest weight: what rounding to float32 leaves. Untransformed weights leave a tenth or more."""

SAMPLED_COLUMNS = 64
"""Columns that are tried first: nearly all weights of other origin end there."""


def store_kernels_untransformed(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Replace transformed float32 kernels by a transform and the kernels before it.

    Returns
    -------
    tuple
        The graph, a new one if anything changed, and how many constants were replaced.
    """
    inputs = {value.name for value in proto.graph.input}
    taken = {tensor.name for tensor in proto.graph.initializer} | {n for node in proto.graph.node for n in node.output}
    found = {
        tensor.name: factors
        for tensor in proto.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and tensor.name not in inputs  # such a constant may be replaced in each run
        and taken.isdisjoint(_names(tensor.name).values())
        and (factors := _find_factors(numpy_helper.to_array(tensor))) is not None
    }
    if not found:
        return proto, 0
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in found]
    nodes: list[onnx.NodeProto] = []
    for name, (transform, kernels) in found.items():
        stored, computed = _express(name, transform, kernels, shapes[name])
        kept.extend(stored)
        nodes.extend(computed)
    del made.graph.initializer[:], made.graph.node[:]
    made.graph.initializer.extend(kept)
    made.graph.node.extend([*nodes, *proto.graph.node])
    return made, len(found)


def _find_factors(weights: Array) -> tuple[Array, Array] | None:
    """Transform ``(rows, taps)`` and kernels ``(taps, values)`` whose product the weights are, if there are such."""
    if weights.ndim < 2 or not np.isfinite(weights).all() or not weights.any():
        return None
    limit = MAX_RESIDUAL * float(np.abs(weights).max())
    for transform, inverse in _transforms():
        rows, taps = transform.shape
        if weights.shape[0] % rows or weights.nbytes * (rows - taps) < MIN_SAVED_BYTES * rows:
            continue
        flat = weights.reshape(rows, -1)
        for columns in (flat[:, :SAMPLED_COLUMNS], flat):
            exact = columns.astype(np.float64)
            kernels = (inverse @ exact).astype(np.float32)
            if np.abs(transform @ kernels - exact).max() > limit:
                break
        else:
            return transform.astype(np.float32), kernels
    return None


def _names(name: str) -> dict[str, str]:
    """Names of what replaces a constant."""
    return {part: f"{name}.{part}" for part in ("transform", "kernels", "shape", "flat")}


@cache
def _transforms() -> tuple[tuple[Array, Array], ...]:
    """Transforms of kernels and their pseudo-inverses, along all axes before those along depth: they save more."""
    return tuple((matrix, np.linalg.pinv(matrix)) for matrix in _kernel_transforms())


def _kernel_transforms() -> Iterator[Array]:
    along_axis = [make_winograd_matrices(tile, TAPS).kernel_transform for tile in TILE_SIZES]
    for axes in product(along_axis, repeat=3):
        yield reduce(np.kron, axes)
    yield from along_axis


def _express(
    name: str, transform: Array, kernels: Array, shape: tuple[int, ...]
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """The constants and the nodes that compute the tensor ``name``."""
    names = _names(name)
    parts = {"transform": transform, "kernels": kernels, "shape": np.array(shape, np.int64)}
    return [numpy_helper.from_array(array, names[part]) for part, array in parts.items()], [
        onnx.helper.make_node("MatMul", [names["transform"], names["kernels"]], [names["flat"]], name=names["flat"]),
        onnx.helper.make_node("Reshape", [names["flat"], names["shape"]], [name], name=name),
    ]
