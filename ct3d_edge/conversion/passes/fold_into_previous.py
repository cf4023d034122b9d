"""Conv(x, w, b) * s + t  ->  Conv(x, w * s, b * s + t)

Also after another affine map: (x * s + t) * u + v  ->  x * (s * u) + (t * u + v).

Exact with any padding: s and t apply to every output of the convolution. The convolution must have no other use.
"""

from functools import partial

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.passes import channel_affine as affines
from ct3d_edge.conversion.passes.channel_affine import ChannelAffine, read_channel_affine
from ct3d_edge.conversion.passes.graph import Array, GraphRewriter, constant_array, only_consumer
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule


def check(node: ir.Node) -> RewriteFn | None:
    """Find an affine map after a convolution or after another map."""
    affine = read_channel_affine(node)
    producer = affine.x.producer() if affine else None
    if affine is None or producer is None:
        return None
    earlier = read_channel_affine(producer)
    if producer.op_type != "Conv" and earlier is None:
        return None
    if only_consumer(affine.x) is None:
        raise RewriteRefused(f"what {producer.name} gives is used elsewhere too")
    if earlier:
        return partial(_merge, node, earlier, affine) if _worthwhile(node, producer, earlier, affine) else None
    weights, bias = constant_array(producer.inputs[1]), _bias(producer)
    if weights is None or bias is None:
        raise RewriteRefused(f"the weights of {producer.name} are no constants")
    return partial(_fold, node, producer, weights, bias, affine)


def _worthwhile(node: ir.Node, producer: ir.Node, earlier: ChannelAffine, affine: ChannelAffine) -> bool:
    """Whether the map is written as Mul then Add already; any other form gets shorter."""
    written = producer.op_type == "Mul" and node.op_type == "Add"
    return not (written and (earlier.shift == 0).all() and (affine.scale == 1).all())


def _bias(convolution: ir.Node) -> Array | None:
    if len(convolution.inputs) < 3 or convolution.inputs[2] is None:
        weights = constant_array(convolution.inputs[1])
        return None if weights is None else np.zeros(len(weights), np.float32)
    return constant_array(convolution.inputs[2])


def _merge(node: ir.Node, earlier: ChannelAffine, later: ChannelAffine) -> None:
    site = GraphRewriter(node)
    scale, shift = earlier.scale * later.scale, earlier.shift * later.scale + later.shift
    site.replace_output(affines.write_channel_affine(site, earlier.x, scale, shift, axes=earlier.axes))


def _fold(node: ir.Node, convolution: ir.Node, weights: Array, bias: Array, affine: ChannelAffine) -> None:
    site = GraphRewriter(node)
    column = (-1,) + (1,) * (weights.ndim - 1)
    folded = site.add_constant(weights * affine.scale.reshape(column), "weights")
    moved = site.add_constant(bias * affine.scale + affine.shift, "bias")
    site.replace_output(site.clone(convolution, convolution.inputs[0], folded, moved))


RULE = RewriteRule("fold into the convolution before", affines.OPERATORS, check)
