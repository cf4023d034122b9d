"""Keras to ONNX, by tf2onnx."""

import keras
import onnx
import tensorflow as tf
import tf2onnx

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ModelError

OPSET = 18
"""The highest that tf2onnx writes."""

INPUT = "volume"


def output_name(contract: Contract) -> str:
    """``"probability"``, or ``"logit"`` if the contract leaves the activation to the runtime."""
    return "probability" if contract.activation == "identity" else "logit"


def to_onnx(network: keras.Model, contract: Contract) -> onnx.ModelProto:
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
    signature = tf.TensorSpec((None, *contract.input_shape), tf.float32, name=INPUT)

    # A function that returns a dict gives the output its name; from_keras fails on Sequential models.
    def forward(volume: tf.Tensor) -> dict[str, tf.Tensor]:
        return {name: tf.cast(network(volume, training=False), tf.float32)}

    function = tf.function(forward, input_signature=[signature])
    proto: onnx.ModelProto
    try:
        _trace(function, signature)
        proto, _ = tf2onnx.convert.from_function(function, input_signature=[signature], opset=OPSET)
    except Exception as error:  # tf2onnx raises bare ValueError, KeyError and others for what it cannot convert
        raise ModelError(f"tf2onnx cannot convert this network: {error}") from error
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    _write_groups(proto)
    return proto


def _trace(function: tf.types.experimental.PolymorphicFunction, signature: tf.TensorSpec) -> None:
    """Trace with inner functions inlined: Keras compiles grouped convolutions apart, where tf2onnx cannot look."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        function.get_concrete_function(signature)
    finally:
        tf.config.run_functions_eagerly(before)


def _write_groups(proto: onnx.ModelProto) -> None:
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
