"""A Keras network to ONNX by tf2onnx, and what tf2onnx leaves out."""

from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ModelError
from ct3d_edge.modelfile.signature import INPUT_NAME, output_name

OPSET = 18
"""The highest that tf2onnx writes."""


def convert_to_onnx(network: keras.Model, contract: Contract) -> onnx.ModelProto:
    """Convert a network in inference mode.

    Returns
    -------
    onnx.ModelProto
        Input ``volume`` ``("batch", *contract.input_shape)`` float32, output named by ``output_name``
        ``("batch", contract.outputs)`` float32, weights inside.

    Raises
    ------
    ModelError
        If tf2onnx cannot convert the network.
    """
    name = output_name(contract)
    signature = tf.TensorSpec((None, *contract.input_shape), tf.float32, name=INPUT_NAME)

    # A function that returns a dict gives the output its name; from_keras fails on Sequential models.
    def forward(volume: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.cast(network(volume, training=False), tf.float32)}

    function = tf.function(forward, input_signature=[signature])
    proto: onnx.ModelProto
    try:
        constants = _captured_constants(_trace(function, signature))
        proto, _ = tf2onnx.convert.from_function(
            function, input_signature=[signature], opset=OPSET, custom_op_handlers=OPERATOR_WRITERS
        )
    except Exception as error:  # tf2onnx raises bare ValueError, KeyError and others for what it cannot convert
        raise ModelError(f"tf2onnx cannot convert this network: {error}") from error
    _store_constants(proto, constants)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    _set_group_attributes(proto)
    return proto


def _trace(function: tf.types.experimental.PolymorphicFunction, signature: tf.TensorSpec) -> Any:
    """Trace with inner functions inlined: Keras compiles grouped convolutions apart, where tf2onnx cannot look."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        return function.get_concrete_function(signature)
    finally:
        tf.config.run_functions_eagerly(before)


def _captured_constants(traced: Any) -> dict[str, NDArray[Any]]:
    """Tensors that layers hold outside their variables (Normalization: mean and variance), by name in the graph."""
    return {
        inner.name: np.asarray(outer) for outer, inner in traced.graph.captures if outer.dtype != tf.dtypes.resource
    }


def _store_constants(proto: onnx.ModelProto, constants: dict[str, NDArray[Any]]) -> None:
    """Make captured tensors initializers; tf2onnx makes them inputs."""
    inputs = [value for value in proto.graph.input if value.name not in constants]
    proto.graph.initializer.extend(
        numpy_helper.from_array(constants[value.name], value.name)
        for value in proto.graph.input
        if value.name in constants
    )
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)


def _write_erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """``Erfc(x)`` as ``1 - Erf(x)``, and of GELU ``Erfc(-x * c)`` as ``Erf(x * c) + 1``, which runtimes fuse."""
    one = graph.make_const(tf2onnx.utils.make_name(name), np.array(1, np.float32)).output[0]
    positive = _negated_factor(graph, node.inputs[0])
    erf = graph.make_node("Erf", [node.input[0] if positive is None else positive]).output[0]
    shapes, dtypes = [graph.get_shape(node.output[0])], [graph.get_dtype(node.output[0])]
    graph.remove_node(node.name)
    operator, inputs = ("Sub", [one, erf]) if positive is None else ("Add", [erf, one])
    graph.make_node(operator, inputs, outputs=[node.output[0]], name=name, shapes=shapes, dtypes=dtypes)


def _write_squared_difference(graph: Any, node: Any, name: str, _: Any) -> None:
    """``(a - b) ** 2`` as a power, not as a product of the difference with itself.

    Of such a product tf2onnx confuses the axes as it moves transposes, and where some have length one it takes
    others for them: the variance of a normalisation of ``(N, 1, 1, 1, C)`` was wrong.
    """
    two = graph.make_const(tf2onnx.utils.make_name(name), np.array(2, np.float32)).output[0]
    inputs, output, shapes, dtypes = list(node.input), node.output[0], node.output_shapes, node.output_dtypes
    graph.remove_node(node.name)
    difference = graph.make_node("Sub", inputs, shapes=shapes, dtypes=dtypes).output[0]
    graph.make_node("Pow", [difference, two], outputs=[output], name=name, shapes=shapes, dtypes=dtypes)


OPERATOR_WRITERS: dict[str, tuple[Any, list[str]]] = {
    "Erfc": (_write_erfc, []),
    "SquaredDifference": (_write_squared_difference, []),
}
"""TensorFlow's operators that tf2onnx does not know or gets wrong."""


def _negated_factor(graph: Any, product: Any) -> str | None:
    """``x * c`` where a node is ``-x * c``; None if it is anything else."""
    if product.type != "Mul":
        return None
    for negated, other in ((0, 1), (1, 0)):
        if product.inputs[negated].type == "Neg":
            factors = [product.inputs[negated].input[0], product.input[other]]
            return str(graph.make_node("Mul", factors).output[0])
    return None


def _set_group_attributes(proto: onnx.ModelProto) -> None:
    """Say how many groups a convolution has, which tf2onnx leaves at one: input channels over those of its kernel."""
    weights = {tensor.name: tensor.dims for tensor in proto.graph.initializer}
    inferred = onnx.shape_inference.infer_shapes(proto).graph
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*inferred.value_info, *inferred.input)}
    for node in proto.graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights or len(shapes.get(node.input[0], ())) < 2:
            continue
        channels = shapes[node.input[0]][1].dim_value
        for attribute in node.attribute:
            if attribute.name == "group" and channels:
                attribute.i = channels // weights[node.input[1]][1]
