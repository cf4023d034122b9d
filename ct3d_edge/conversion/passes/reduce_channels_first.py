"""ReduceMean(Transpose(x), axes)  ->  ReduceMean(x, the same axes before the Transpose)

tf2onnx transposes the channels to the end before a global pooling, as in Keras. Exact: the same numbers are averaged.
The axes that are left must stay in their order.
"""

from functools import partial

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import (
    REDUCE_OPS,
    GraphRewriter,
    first_input,
    only_consumer,
    reduced_axes,
    transpose_permutation,
)
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule


def check(node: ir.Node) -> RewriteFn | None:
    """Find a reduction of a transposed tensor."""
    producer = first_input(node).producer()
    order = transpose_permutation(producer) if producer else None
    if producer is None or order is None:
        return None
    axes, keep = reduced_axes(node)
    if axes is None:
        raise RewriteRefused("its axes are not constant")
    if only_consumer(producer.outputs[0]) is None:
        raise RewriteRefused("the transposed tensor is used elsewhere too")
    before = [order[axis] for axis in axes]
    left = [axis for axis in order if axis not in before]
    if keep or left != sorted(left):
        raise RewriteRefused("the axes that are left would change their order")
    return partial(_reduce, node, producer, sorted(before))


def _reduce(node: ir.Node, transpose: ir.Node, axes: list[int]) -> None:
    site = GraphRewriter(node)
    site.replace_output(site.insert(node.op_type, transpose.inputs[0], site.add_int64(*axes), keepdims=0))


RULE = RewriteRule("global pooling without Transpose", REDUCE_OPS, check)
