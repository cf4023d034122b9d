"""Conv(x * s + t, w, b)  ->  Conv(x, w * s, b + sum(w * t))

s and t are those of the input channels. Exact where t = 0 or the convolution has no padding: padding is zero after the
shift, not before it. Before a padded convolution, a map x * s + t becomes (x + t / s) * s: the factor is folded, the
term stays.
"""

from functools import partial

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.passes import channel_affine as affines
from ct3d_edge.conversion.passes.channel_affine import ChannelAffine, Vector, read_channel_affine
from ct3d_edge.conversion.passes.graph import Array, GraphRewriter, constant_array, only_consumer
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule
from ct3d_edge.conversion.passes.window import Window, group_count

LARGEST_TERM = 1e3
"""Largest t / s: with a larger one, x would lose digits."""


def check(node: ir.Node) -> RewriteFn | None:
    """Find an affine map whose only use is a convolution's input."""
    affine = read_channel_affine(node)
    users = [use.node for use in node.outputs[0].uses() if use.node.op_type == "Conv" and use.idx == 0]
    if affine is None or not users:
        return None
    convolution = only_consumer(node.outputs[0])
    if convolution is None:
        raise RewriteRefused("it is used by more than the convolution behind it")
    weights, given = (
        constant_array(convolution.inputs[1]),
        convolution.inputs[2] if len(convolution.inputs) > 2 else None,
    )
    if weights is None or (given is not None and constant_array(given) is None):
        raise RewriteRefused(f"the weights of {convolution.name} are no constants")
    if (affine.shift == 0).all() or not Window.from_node(convolution).padded:
        return partial(_fold, convolution, weights, affine)
    factor = _factor(affine.x.producer())
    if node.op_type == "Add" and factor is not None:
        return _swap(node, affine, factor)
    raise RewriteRefused(f"{convolution.name} pads with zeros, which the added term does not reach")


def _factor(node: ir.Node | None) -> ChannelAffine | None:
    """A multiplication alone, before the shift."""
    affine = read_channel_affine(node) if node else None
    bare = affine and (affine.shift == 0).all() and node and only_consumer(node.outputs[0])
    return affine if bare else None


def _swap(node: ir.Node, term: ChannelAffine, factor: ChannelAffine) -> RewriteFn:
    smallest = np.abs(factor.scale).min()
    if smallest == 0 or np.abs(term.shift / np.where(factor.scale == 0, 1, factor.scale)).max() > LARGEST_TERM:
        raise RewriteRefused("a factor is so small that the term cannot be taken in front of it")

    def rewrite() -> None:
        site = GraphRewriter(node)
        moved = affines.write_channel_affine(
            site, factor.x, np.ones_like(term.shift), term.shift / factor.scale, axes=term.axes
        )
        site.replace_output(
            affines.write_channel_affine(site, moved, factor.scale, np.zeros_like(factor.scale), axes=term.axes)
        )

    return rewrite


def _fold(convolution: ir.Node, weights: Array, affine: ChannelAffine) -> None:
    site = GraphRewriter(convolution)
    groups = group_count(convolution)
    scale, shift = (_by_output(vector, groups, weights) for vector in (affine.scale, affine.shift))
    spatial = tuple(range(1, weights.ndim))
    given = constant_array(convolution.inputs[2]) if len(convolution.inputs) > 2 else None
    bias = (0 if given is None else given) + (weights * shift).sum(axis=spatial)
    folded = site.add_constant(weights * scale, "weights"), site.add_constant(bias, "bias")
    site.replace_output(site.clone(convolution, affine.x, *folded))


def _by_output(vector: Vector, groups: int, weights: Array) -> Array:
    """One number per input channel in the shape of the weights: ``(outputs, inputs of the group, 1, ...)``."""
    each = np.repeat(vector.reshape(groups, -1), len(weights) // groups, axis=0)
    return each.reshape(each.shape + (1,) * (weights.ndim - 2))


RULE = RewriteRule("fold into the convolution behind", affines.OPERATORS, check)
