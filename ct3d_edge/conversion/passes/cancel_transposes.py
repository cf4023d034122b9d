"""Transpose(Transpose(x))  ->  Transpose(x), or x where they undo each other

Relu(Transpose(x))  ->  Transpose(Relu(x))                    and other elementwise operators, constants transposed too
Add(Transpose(x), Transpose(y))  ->  Transpose(Add(x, y))        of the same order

Exact: no value changes. Transposes move towards the output until they meet their inverse.
"""

from functools import partial

import numpy as np
import onnx_ir as ir

from ct3d_edge.conversion.passes.graph import (
    GraphRewriter,
    compose_permutations,
    constant_array,
    first_input,
    inverse_permutation,
    only_consumer,
    rank,
    transpose_permutation,
)
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRule

ELEMENTWISE_UNARY = frozenset(
    {"Relu", "LeakyRelu", "Sigmoid", "Tanh", "Elu", "Selu", "Softplus", "Erf", "HardSigmoid", "HardSwish"}
)
ELEMENTWISE_BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum"})


def check(node: ir.Node) -> RewriteFn | None:
    """Find a Transpose after a Transpose, or an elementwise operator that can be computed before it."""
    if node.op_type == "Transpose":
        return _pair(node)
    orders = {order for value in node.inputs if (order := _transpose_order(value)) is not None}
    if len(orders) != 1 or any(not _follows(value, len(next(iter(orders)))) for value in node.inputs):
        return None
    return partial(_move_transpose, node, orders.pop())


def _pair(node: ir.Node) -> RewriteFn | None:
    second, first = transpose_permutation(node), _transpose_order(node.inputs[0])
    if second is not None and second == tuple(range(len(second))):
        return partial(_rewrite_pair, node, first_input(node), None)
    if second is None or first is None:
        return None
    source = first_input(node).producer()
    order = compose_permutations(first, second)
    changes = order != tuple(range(len(order)))
    return partial(_rewrite_pair, node, first_input(source), order if changes else None) if source else None


def _rewrite_pair(node: ir.Node, x: ir.Value, order: tuple[int, ...] | None) -> None:
    site = GraphRewriter(node)
    site.replace_output(x if order is None else site.insert("Transpose", x, perm=list(order)))


def _transpose_order(value: ir.Value | None) -> tuple[int, ...] | None:
    producer = value.producer() if value is not None else None
    return transpose_permutation(producer) if producer else None


def _follows(value: ir.Value | None, axes: int) -> bool:
    """Whether a value is available in the order before the Transpose: transposed here alone, or constant."""
    if value is None:
        return False
    array = constant_array(value)
    if array is not None:
        return array.ndim in (0, axes) or array.size == 1
    return _transpose_order(value) is not None and only_consumer(value) is not None and rank(value) == axes


def _move_transpose(node: ir.Node, order: tuple[int, ...]) -> None:
    site = GraphRewriter(node)
    inputs = [_value_before_transpose(site, value, order) for value in node.inputs if value is not None]
    site.replace_output(site.insert("Transpose", site.clone(node, *inputs), perm=list(order)))


def _value_before_transpose(site: GraphRewriter, value: ir.Value, order: tuple[int, ...]) -> ir.Value | None:
    array = constant_array(value)
    if array is None:
        producer = value.producer()
        return producer.inputs[0] if producer else None
    return value if array.size == 1 else site.add_constant(np.transpose(array, inverse_permutation(order)), "turned")


RULE = RewriteRule("cancel transposes", frozenset({"Transpose"}) | ELEMENTWISE_UNARY | ELEMENTWISE_BINARY, check)
