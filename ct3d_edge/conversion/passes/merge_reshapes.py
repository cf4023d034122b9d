"""Reshape(Reshape(x, a), b)  ->  Reshape(x, b)        Reshape(x, shape of x)  ->  x

Exact: no value moves. Needs a constant b that copies no length from its input (a zero in b).
"""

from functools import partial

import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import GraphRewriter, constant_array, first_input, rank, sample_shape
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRule


def check(node: ir.Node) -> RewriteFn | None:
    """Find a Reshape of a Reshape, or one that changes nothing."""
    form = constant_array(node.inputs[1])
    if form is None or (form == 0).any() or (form < 0).sum() != 1:
        return None
    x = first_input(node)
    if form[0] == -1 and rank(x) == form.size and sample_shape(x) == tuple(form[1:]):
        return partial(_pass_on, node, x)
    producer = x.producer()
    if producer is None or producer.op_type != "Reshape":
        return None
    return partial(_skip, node, first_input(producer))


def _pass_on(node: ir.Node, x: ir.Value) -> None:
    GraphRewriter(node).replace_output(x)


def _skip(node: ir.Node, x: ir.Value) -> None:
    site = GraphRewriter(node)
    site.replace_output(site.clone(node, x, node.inputs[1]))


RULE = RewriteRule("merge reshapes", frozenset({"Reshape"}), check)
