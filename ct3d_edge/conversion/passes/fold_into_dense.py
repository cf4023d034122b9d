"""MatMul(x * s + t, W)  ->  MatMul(x, s * W) + t W        Gemm(x * s + t, W, b)  ->  Gemm(x, s * W, b + t W)

x is ``(N, C)``, W ``(C, units)``. Exact. Needs a constant W, and a map with no other use.
"""

from functools import partial

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.passes import channel_affine as affines
from ct3d_edge.conversion.passes.channel_affine import ChannelAffine, read_channel_affine
from ct3d_edge.conversion.passes.graph import Array, GraphRewriter, constant_array, only_consumer
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRefused, RewriteRule

DENSE = frozenset({"MatMul", "Gemm"})


def check(node: ir.Node) -> RewriteFn | None:
    """Find an affine map of a vector whose only use is a dense layer."""
    affine = read_channel_affine(node)
    users = [use.node for use in node.outputs[0].uses() if use.node.op_type in DENSE and use.idx == 0]
    if affine is None or not users or affine.axes != 2:
        return None
    dense = only_consumer(node.outputs[0])
    if dense is None:
        raise RewriteRefused("it is used by more than the dense layer behind it")
    weights = constant_array(dense.inputs[1])
    if weights is None or weights.ndim != 2:
        raise RewriteRefused(f"the weights of {dense.name} are no constant matrix")
    return partial(_fold_matmul, dense, weights, affine) if dense.op_type == "MatMul" else _gemm(dense, weights, affine)


def _fold_matmul(dense: ir.Node, weights: Array, affine: ChannelAffine) -> None:
    site = GraphRewriter(dense)
    product = site.clone(dense, affine.x, site.add_constant(affine.scale[:, None] * weights, "weights"))
    shift = affine.shift @ weights
    site.replace_output(affines.write_channel_affine(site, product, np.ones_like(shift), shift, axes=2))


def _gemm(dense: ir.Node, weights: Array, affine: ChannelAffine) -> RewriteFn:
    given = constant_array(dense.inputs[2]) if len(dense.inputs) > 2 else np.zeros(1, np.float32)
    plain = all(_number(dense, name, 1.0) == 1.0 for name in ("alpha", "beta")) and not _flag(dense, "transA")
    if given is None or not plain:
        raise RewriteRefused(f"{dense.name} scales or transposes what it is given")

    def rewrite() -> None:
        site = GraphRewriter(dense)
        matrix = weights.T if _flag(dense, "transB") else weights
        folded = site.add_constant(affine.scale[:, None] * matrix, "weights")
        site.replace_output(
            site.insert("Gemm", affine.x, folded, site.add_constant(given + affine.shift @ matrix, "bias"))
        )

    return rewrite


def _number(node: ir.Node, name: str, default: float) -> float:
    return node.attributes[name].as_float() if name in node.attributes else default


def _flag(node: ir.Node, name: str) -> bool:
    return name in node.attributes and bool(node.attributes[name].as_int())


RULE = RewriteRule("fold into the dense layer", affines.OPERATORS, check)
