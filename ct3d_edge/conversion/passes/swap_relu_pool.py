"""MaxPool(Relu(x))  ->  Relu(MaxPool(x))

Exact: a non-decreasing function preserves the maximum (padding of a MaxPool is minus infinity, and every window holds
at least one voxel). Not after a convolution into which the runtime fuses the activation.
"""

from functools import partial

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import GraphRewriter, first_input, only_consumer, only_pool
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import find_planes
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule

MONOTONIC_ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "Clip"})
POOLS = frozenset({"MaxPool", "GlobalMaxPool"})


def check(node: ir.Node) -> RewriteFn | None:
    """Find an activation whose only use is a max pooling."""
    pool = only_pool(node, POOLS)
    if pool is None:
        return None
    if "alpha" in node.attributes and node.attributes["alpha"].as_float() < 0:
        raise RewriteRefused("its slope is negative, so it falls")
    producer = (find_planes(first_input(node)) or first_input(node)).producer()
    if producer is not None and producer.op_type == "Conv" and only_consumer(producer.outputs[0]):
        raise RewriteRefused(f"{producer.name} does it in passing")
    return partial(_swap, node, pool)


def _swap(activation: ir.Node, pool: ir.Node) -> None:
    site = GraphRewriter(pool)
    site.replace_output(site.clone(activation, site.clone(pool, activation.inputs[0]), *activation.inputs[1:]))


RULE = RewriteRule("activation behind the pooling", MONOTONIC_ACTIVATIONS, check)
