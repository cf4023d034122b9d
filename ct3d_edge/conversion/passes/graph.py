"""Queries of rewrite rules on a graph, and `GraphRewriter`, through which they change it."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ct3d_edge.conversion.passes.rule import RewriteRefused

Array = NDArray[Any]


def constant_array(value: ir.Value | None) -> Array | None:
    """The array of a constant value; None if the value is computed."""
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def first_input(node: ir.Node) -> ir.Value:
    """The first input of an operator."""
    value = node.inputs[0]
    if value is None:
        raise RewriteRefused("its first input is left out")
    return value


def require_sample_shape(value: ir.Value) -> tuple[int, ...]:
    """Lengths of the axes after the batch axis; all of them must be known."""
    found = sample_shape(value)
    if found is None:
        raise RewriteRefused("the size of its input is not known")
    return found


def sample_shape(value: ir.Value) -> tuple[int, ...] | None:
    """Lengths of the axes after the batch axis; None if one is unknown."""
    if value.shape is None:
        return None
    behind = [axis for axis in value.shape.dims[1:] if isinstance(axis, int)]
    return tuple(behind) if len(behind) == value.shape.rank() - 1 else None


def rank(value: ir.Value) -> int | None:
    """Number of axes with the batch axis; None if unknown."""
    return None if value.shape is None else value.shape.rank()


def only_consumer(value: ir.Value) -> ir.Node | None:
    """The only node that uses a value; None if there are several, a loop's body uses it, or it is a graph output."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    node = next(iter(uses)).node
    return node if node.graph is value.graph else None


def only_pool(node: ir.Node, kinds: Collection[str]) -> ir.Node | None:
    """The pooling of one of these kinds that alone uses the output of a node; None if no such pooling uses it.

    Raises
    ------
    RewriteRefused
        If others use it too, or the pooling also gives the positions of its maxima.
    """
    if not any(use.node.op_type in kinds for use in node.outputs[0].uses()):
        return None
    pool = only_consumer(node.outputs[0])
    if pool is None:
        raise RewriteRefused("it is used by more than the pooling behind it")
    if len(pool.outputs) > 1:
        raise RewriteRefused(f"{pool.name} also tells where the maxima are")
    return pool


def has_body(node: ir.Node) -> bool:
    """Whether a node is control flow: a loop or a choice, whose body the rules leave alone."""
    return any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in node.attributes.values()
    )


def per_channel_constant(value: ir.Value | None, axes: int, channels: int) -> NDArray[np.float64] | None:
    """A constant with one number per channel, as ``(channels,)``; None for any other value.

    Parameters
    ----------
    value
        A value that is broadcast to a tensor ``(N, channels, ...)``.
    axes, channels
        Rank and channels of that tensor.
    """
    array = constant_array(value)
    if array is None or array.ndim > axes or array.dtype != np.float32:
        return None
    aligned = array.reshape((1,) * (axes - array.ndim) + array.shape)
    if aligned.size not in (1, channels) or aligned.size != aligned.shape[1]:
        return None
    return np.broadcast_to(aligned.reshape(-1), (channels,)).astype(np.float64)


def name_stem(node: ir.Node) -> str:
    """The name that a node had in the source, or that of the node which it was made from."""
    return (node.name or node.op_type).split(REWRITE_MARK)[0]


class GraphRewriter:
    """Inserts new nodes before a node of a graph, and replaces it.

    Parameters
    ----------
    anchor
        The node that is replaced; new nodes are named after it.
    """

    def __init__(self, anchor: ir.Node) -> None:
        if anchor.graph is None:
            raise ValueError(f"{anchor.name} is in no graph")
        self._anchor = anchor
        self._graph: ir.Graph = anchor.graph
        self._stem = anchor.name or anchor.outputs[0].name or anchor.op_type

    def insert(self, operator: str, *inputs: ir.Value | None, what: str = "", **attributes: Any) -> ir.Value:
        """Add one node and return its output. Attributes that are None are left out; ``what`` is part of its name."""
        return self._add(self._unique_name(what or operator), operator, inputs, attributes)

    def clone(self, model: ir.Node, *inputs: ir.Value | None, **changes: Any) -> ir.Value:
        """Add a copy of a node, with some attributes changed."""
        return self._add(
            f"{name_stem(model)}{REWRITE_MARK}{self._next_number()}",
            model.op_type,
            inputs,
            {**model.attributes, **changes},
        )

    def _add(
        self, name: str, operator: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any]
    ) -> ir.Value:
        given = {key: value for key, value in attributes.items() if value is not None}
        node = ir.node(operator, list(inputs), given, name=name)
        node.outputs[0].name = f"{node.name}:0"
        self._graph.insert_before(self._anchor, node)
        return node.outputs[0]

    def add_constant(self, array: Array, what: str) -> ir.Value:
        """Add a constant; float arrays are stored as float32."""
        stored = np.asarray(array, np.float32 if array.dtype.kind == "f" else array.dtype, order="C")
        name = self._unique_name(what)
        value = ir.Value(name=name, const_value=ir.tensor(stored, name=name))
        value.type, value.shape = ir.TensorType(ir.DataType.from_numpy(stored.dtype)), ir.Shape(stored.shape)
        self._graph.register_initializer(value)
        return value

    def add_int64(self, *numbers: int) -> ir.Value:
        """Add a constant ``(len(numbers),)`` int64, such as a shape or axes."""
        return self.add_constant(np.array(numbers, np.int64), "numbers")

    def replace_output(self, replacement: ir.Value, *, of: ir.Value | None = None) -> None:
        """Replace a value (the anchor's output if None) by another one, and remove the nodes that only it needed."""
        old = of or self._anchor.outputs[0]
        if replacement.shape is None:
            replacement.shape = old.shape
        replacement.type = old.type
        is_output, name = old.is_graph_output(), old.name
        if is_output and (replacement.is_graph_input() or replacement.is_graph_output()):
            replacement = self.insert("Identity", replacement)
        ir.convenience.replace_all_uses_with(old, replacement, replace_graph_outputs=True)
        if is_output:  # names of graph outputs must not change
            old.name = None
            replacement.name = name
        producer = old.producer()
        if producer:
            remove_unused(producer)

    def _unique_name(self, what: str) -> str:
        return f"{self._stem.split(REWRITE_MARK)[0]}{REWRITE_MARK}{what}.{self._next_number()}"

    def _next_number(self) -> int:
        if COUNTER_KEY not in self._graph.meta:
            self._graph.meta[COUNTER_KEY] = _last_number(self._graph)
        number: int = self._graph.meta[COUNTER_KEY] + 1
        self._graph.meta[COUNTER_KEY] = number
        return number


REWRITE_MARK = "/ct3d."
"""Separates the name of the replaced node from the part that a rule appends."""

COUNTER_KEY = "ct3d.names"
"""Metadata key of a graph for the number of names given, so that the same input gives the same bytes."""


def _last_number(graph: ir.Graph) -> int:
    """The highest number in the names of a graph that was rewritten before."""
    names = [*(node.name or "" for node in graph), *graph.initializers]
    numbers = [name.rpartition(".")[2].partition(":")[0] for name in names if REWRITE_MARK in name]
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def remove_unused(node: ir.Node) -> None:
    """Remove a node without uses, and the nodes that only it used."""
    if node.graph is None or any(value.uses() or value.is_graph_output() for value in node.outputs):
        return
    producers = [value.producer() for value in node.inputs if value is not None]
    node.graph.remove(node, safe=True)
    for producer in producers:
        if producer is not None:
            remove_unused(producer)


def transpose_permutation(node: ir.Node) -> tuple[int, ...] | None:
    """Output axis to input axis; None if the node is no Transpose."""
    if node.op_type != "Transpose":
        return None
    if "perm" in node.attributes:
        return tuple(node.attributes["perm"].as_ints())
    axes = rank(first_input(node))
    return None if axes is None else tuple(reversed(range(axes)))


def compose_permutations(first: Sequence[int], second: Sequence[int]) -> tuple[int, ...]:
    """Composition of two permutations."""
    return tuple(first[axis] for axis in second)


def inverse_permutation(order: Sequence[int]) -> tuple[int, ...]:
    """Inverse of a permutation."""
    return tuple(order.index(axis) for axis in range(len(order)))


REDUCE_OPS = frozenset({"ReduceMean", "ReduceMax"})


def reduced_axes(node: ir.Node) -> tuple[tuple[int, ...] | None, bool]:
    """Axes as non-negative numbers, and whether they are kept with length one.

    The axes are None if they are computed, or if there are none.
    """
    keep = "keepdims" not in node.attributes or bool(node.attributes["keepdims"].as_int())
    given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = rank(first_input(node))
    if given is None or axes is None or given.size == 0:
        return None, keep
    return tuple(sorted(int(axis) % axes for axis in given.reshape(-1))), keep
