"""A Keras network to ONNX by the writer of this package."""

import keras
import onnx
import onnx_ir as ir

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.direct.layers import LAYERS
from ct3d_edge.conversion.direct.operations import OPERATIONS
from ct3d_edge.conversion.direct.windows import WINDOWS
from ct3d_edge.conversion.direct.writer import GraphWriter
from ct3d_edge.conversion.passes import cancel_transposes, reduce_channels_first
from ct3d_edge.conversion.passes.pass_runner import Pass, run_passes
from ct3d_edge.conversion.passes.rule import cleanup
from ct3d_edge.modelfile.signature import INPUT_NAME, output_name

OPSET, IR_VERSION = 18, 8
LAYOUT = Pass("layout", (cancel_transposes.RULE, reduce_channels_first.RULE))


def convert_directly(network: keras.Model, contract: Contract) -> onnx.ModelProto:
    """Convert a network in inference mode, without TensorFlow's graphs and without tf2onnx.

    Returns
    -------
    onnx.ModelProto
        As `convert_to_onnx` does.

    Raises
    ------
    ModelError
        A layer is unknown; the message names it.
    """
    writer = GraphWriter(OPERATIONS | WINDOWS, LAYERS, OPSET)
    volume = ir.val(INPUT_NAME, ir.DataType.FLOAT, ("batch", *contract.input_shape))
    writer.graph.inputs.append(volume)
    fixed = _with_known_sizes(network, contract.input_shape)
    (symbol,) = fixed.outputs
    output = writer.add("Identity", writer.write_graph(fixed.inputs, symbol, [volume]))
    output.name, output.dtype = output_name(contract), ir.DataType.FLOAT
    output.shape = ir.Shape(["batch", *symbol.shape[1:]])
    writer.graph.outputs.append(output)
    written = ir.Model(writer.graph, ir_version=IR_VERSION, producer_name="ct3d-edge")
    for node in writer.graph:  # inferred anew: the recorded ones leave lengths open
        for value in node.outputs:
            value.shape = value.shape if value is output else None
    return run_passes(ir.to_proto(cleanup(written)), [LAYOUT]).proto


def _with_known_sizes(network: keras.Model, shape: tuple[int, ...]) -> keras.Model:
    """The network, or a copy for one size if it leaves its input size open."""
    if tuple(network.inputs[0].shape[1:]) == shape:
        return network
    copy = keras.models.clone_model(network, input_tensors=keras.Input(shape))
    copy.set_weights(network.get_weights())
    return copy
