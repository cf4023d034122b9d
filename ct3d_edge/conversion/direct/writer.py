"""Record what a Keras network computes, and write each operation as nodes of ONNX.

A layer is called with Keras' symbolic tensors, which records the operations of `keras.ops` that it is made of; a layer
of one's own that uses only these needs nothing else. Layers that cannot be recorded so have a function in `layers.py`,
operations one in `operations.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ct3d_edge.errors import ModelError
from ct3d_edge.keras_backend import keras_reason

Array = NDArray[Any]
DTYPES = {name: ir.DataType.from_numpy(np.dtype(name)) for name in ("float32", "int32", "int64", "bool")}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, eq=False)
class OperationCall:
    """An operation and what it is called with.

    Parameters
    ----------
    writer
        Adds nodes.
    operation
        An operation of `keras.ops`, or a layer.
    inputs, options
        Its arguments by position and by name: values of the graph, arrays, or what else Keras was given.
    shapes
        Of its outputs, with None for the batch axis.
    """

    writer: "GraphWriter"
    operation: Any
    inputs: tuple[Any, ...]
    options: dict[str, Any]
    shapes: tuple[tuple[int | None, ...], ...]

    @property
    def x(self) -> ir.Value:
        """The first input."""
        return self.writer.value(self.inputs[0])

    def add(self, operator: str, *inputs: Any, **attributes: Any) -> ir.Value:
        """Add a node; arrays and numbers among its inputs become constants."""
        return self.writer.add(operator, *inputs, **attributes)

    def refuse(self, reason: str) -> ModelError:
        """An error that names the layer and the way out."""
        return ModelError(
            f"`converter=direct` cannot write {type(self.operation).__name__} of {self.writer.layer}: {reason}. "
            "Use `converter=tf2onnx`."
        )


WriteFn = Callable[[OperationCall], Any]
"""Writes a call; returns its output, or a list of several."""


class GraphWriter:
    """Writes operations into one graph.

    Parameters
    ----------
    operations
        Functions by the name of a class of operations.
    layers
        Functions by the name of a class of layers, or of a base class.
    opset
        Of the graph.
    """

    def __init__(self, operations: Mapping[str, WriteFn], layers: Mapping[str, WriteFn], opset: int) -> None:
        self.graph = ir.Graph([], [], nodes=[], opset_imports={"": opset}, name="network")
        self._operations, self._layer_functions = operations, layers
        self._constants: dict[int, tuple[Any, ir.Value]] = {}  # the object is kept so that its id stays its own
        self._layers: list[str] = []
        self._number = 0

    @property
    def layer(self) -> str:
        """Where the writer is: names of layers, from the outermost to the innermost."""
        return "/".join(self._layers) or "the network"

    def add(self, operator: str, *inputs: Any, **attributes: Any) -> ir.Value:
        """Add a node and return its output; arrays and numbers among its inputs become constants."""
        return self.add_several(1, operator, *inputs, **attributes)[0]

    def add_several(self, outputs: int, operator: str, *inputs: Any, **attributes: Any) -> list[ir.Value]:
        """Add a node with several outputs."""
        values = [None if x is None else self.value(x) for x in inputs]
        node = ir.node(operator, values, attributes, num_outputs=outputs, name=self._new_name(operator))
        for index, value in enumerate(node.outputs):
            value.name = f"{node.name}:{index}"
        self.graph.append(node)
        return list(node.outputs)

    def value(self, x: Any) -> ir.Value:
        """A value of the graph, or a constant for a variable, an array or a number."""
        if isinstance(x, ir.Value):
            return x
        if id(x) not in self._constants:
            self._constants[id(x)] = (x, self._constant(to_array(x)))
        return self._constants[id(x)][1]

    def _constant(self, array: Array) -> ir.Value:
        stored = array.astype(np.float32) if array.dtype.kind == "f" else array
        name = self._new_name("constant")
        value = ir.Value(name=name, const_value=ir.tensor(np.asarray(stored, order="C"), name=name))
        value.dtype, value.shape = ir.DataType.from_numpy(stored.dtype), ir.Shape(stored.shape)
        self.graph.register_initializer(value)
        return value

    def _new_name(self, what: str) -> str:
        self._number += 1
        return "/".join([*self._layers, f"{what}_{self._number}"])

    def apply(self, function: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
        """Record a function of tensors, and write its operations."""
        symbols: dict[int, tuple[Any, ir.Value]] = {}
        given, named = keras.tree.map_structure(lambda x: _to_symbol(x, symbols), (inputs, options))
        outputs = function(*given, **named)
        sources = [symbol for symbol, _ in symbols.values()]
        return self.write_graph(sources, outputs, [value for _, value in symbols.values()])

    def write_graph(self, sources: Sequence[Any], outputs: Any, values: Sequence[ir.Value]) -> Any:
        """Write the recorded operations between symbolic tensors; return the values of ``outputs``."""
        known = {id(source): value for source, value in zip(sources, values, strict=True)}
        symbols = [x for x in keras.tree.flatten(outputs) if isinstance(x, keras.KerasTensor)]
        if any(id(symbol) not in known for symbol in symbols):
            recorded = keras.Function(list(sources), symbols)._nodes_by_depth
            for node in (node for depth in sorted(recorded, reverse=True) for node in recorded[depth]):
                if node.operation and not node.is_input:
                    self._write_node(node, known)
        return keras.tree.map_structure(lambda x: known.get(id(x), x), outputs)

    def _write_node(self, node: Any, known: dict[int, ir.Value]) -> None:
        inputs, options = keras.tree.map_structure(
            lambda x: known.get(id(x), x), (node.arguments.args, node.arguments.kwargs)
        )
        shapes = tuple(tuple(symbol.shape) for symbol in node.outputs)
        call = OperationCall(self, node.operation, inputs, _without_none(options), shapes)
        for symbol, value in zip(node.outputs, keras.tree.flatten(self.write(call)), strict=True):
            known[id(symbol)] = _annotate(self.value(value), symbol)

    def write(self, call: OperationCall) -> Any:
        """Write one operation or layer, by its function or as what it is made of."""
        operation = call.operation
        if isinstance(operation, keras.layers.Layer):
            self._layers.append(operation.name)
            written = self._write_layer(call)
            self._layers.pop()
            return written
        function = self._operations.get(type(operation).__name__)
        if function is None:
            raise call.refuse("this operation has no writer")
        return function(call)

    def _write_layer(self, call: OperationCall) -> Any:
        layer, inputs, options = call.operation, call.inputs, dict(call.options)
        for kind in type(layer).__mro__:
            if kind.__name__ in self._layer_functions and kind.__module__.startswith("keras."):
                return self._layer_functions[kind.__name__](call)
        graph = getattr(layer, "_functional", layer)
        if isinstance(graph, keras.Function):
            return self.write_graph(graph.inputs, graph._outputs_struct, keras.tree.flatten(inputs))
        options.pop("training", None)
        training = {"training": False} if layer._call_has_training_arg else {}
        try:
            return self.apply(layer.call, *inputs, **options, **training)
        except ModelError:
            raise
        except Exception as error:  # whatever a layer raises that computes with other means than keras.ops
            raise call.refuse(f"its operations cannot be recorded ({keras_reason(error)})") from error


def to_array(x: Any) -> Array:
    """The numbers of a variable, tensor, array or number; a number is float32."""
    if isinstance(x, int | float) and not isinstance(x, bool):
        return np.array(x, np.float32)
    return np.asarray(keras.ops.convert_to_numpy(x))


def _without_none(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _to_symbol(x: Any, symbols: dict[int, tuple[Any, ir.Value]]) -> Any:
    if not isinstance(x, ir.Value):
        return x
    if id(x) not in symbols:
        dtype = DTYPE_NAMES[x.dtype or ir.DataType.FLOAT]
        symbols[id(x)] = (keras.Input(batch_shape=known_shape(x), dtype=dtype), x)
    return symbols[id(x)][0]


def known_shape(x: ir.Value) -> tuple[int | None, ...]:
    """Lengths of the axes of a value, None for an open one."""
    if x.shape is None:
        raise ValueError(f"{x.name} has no shape")
    return tuple(axis if isinstance(axis, int) else None for axis in x.shape.dims)


def _annotate(value: ir.Value, symbol: Any) -> ir.Value:
    value.shape = ir.Shape(symbol.shape)
    value.dtype = DTYPES.get(symbol.dtype, ir.DataType.FLOAT)
    return value
