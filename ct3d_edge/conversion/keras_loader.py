"""The Keras model to be exported, loaded, and converted to ONNX by tf2onnx."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from numpy.typing import ArrayLike, NDArray

from ct3d_edge.contract import Activation, Contract
from ct3d_edge.conversion.keras_introspection import KerasInterface, inspect_interface
from ct3d_edge.errors import ContractError, ModelError, UsageError
from ct3d_edge.keras_backend import require_graph_mode
from ct3d_edge.session.runner import to_probabilities

OPSET = 18
"""The highest that tf2onnx writes."""

INPUT_NAME = "volume"


def output_name(contract: Contract) -> str:
    """``"probability"``, or ``"logit"`` if the contract leaves the activation to the runtime."""
    return "probability" if contract.activation == "identity" else "logit"


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
        _trace(function, signature)
        proto, _ = tf2onnx.convert.from_function(function, input_signature=[signature], opset=OPSET)
    except Exception as error:  # tf2onnx raises bare ValueError, KeyError and others for what it cannot convert
        raise ModelError(f"tf2onnx cannot convert this network: {error}") from error
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    _set_group_attributes(proto)
    return proto


def _trace(function: tf.types.experimental.PolymorphicFunction, signature: tf.TensorSpec) -> None:
    """Trace with inner functions inlined: Keras compiles grouped convolutions apart, where tf2onnx cannot look."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        function.get_concrete_function(signature)
    finally:
        tf.config.run_functions_eagerly(before)


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


RUN_MODEL_NAME = "model.keras"
"""Of a training run; only beside a file of this name a contract.json is its own."""


@dataclass(frozen=True, eq=False)
class KerasSource:
    """A Keras network and what is known about it.

    Parameters
    ----------
    path, sha256
        The .keras file and the hash of its bytes.
    network
        One volume in, one vector out.
    contract
        What the network expects and answers.
    messages
        Sentences about what was assumed, for the user to read.
    """

    path: Path
    sha256: str
    network: keras.Model
    contract: Contract
    messages: tuple[str, ...]

    def probabilities(self, volume: NDArray[np.float32]) -> NDArray[np.float64]:
        """``(len(contract.labels),)`` probabilities of one network input ``contract.shape``, by Keras."""
        batch = volume.reshape(1, *self.contract.input_shape)
        return self.postprocess(keras.ops.convert_to_numpy(self.network(batch, training=False)))

    def postprocess(self, output: ArrayLike) -> NDArray[np.float64]:
        """The same from the network's output ``(1, contract.outputs)``."""
        return np.asarray(to_probabilities(np.asarray(output, np.float32), self.contract)[0])


def load_keras_source(
    path: Path,
    *,
    labels: Sequence[str] | None = None,
    orientation: str | None = None,
    size: tuple[int, int, int] | None = None,
    activation: Activation | None = None,
) -> KerasSource:
    """Load a training run (a folder with model.keras and contract.json) or a bare .keras file.

    Parameters
    ----------
    path
        The folder, its model.keras, or any other .keras file.
    labels, orientation
        Replace what the contract says; None keeps it.
    size
        ``(W, H, D)`` for a network that leaves its input size open.
    activation
        What its output still lacks to be probabilities; None to read it off the network.

    Raises
    ------
    UsageError
        The path does not exist, is not a .keras file, or an option fits neither contract nor network.
    ModelError
        Keras cannot load it, or the network is not one volume in, one vector out.
    ContractError
        The contract does not fit the network.
    """
    file, contract_file = _locate_files(path)
    network = _load(file)
    own = _default_contract(inspect_interface(file, network, size=size, activation=activation))
    contract = (
        own if contract_file is None else _require_matching_contract(_read_contract(contract_file), own, contract_file)
    )
    message = _default_remark(file, own, labels) if contract_file is None else f"The contract is {contract_file}."
    contract = _override_contract(contract, labels, orientation)
    note = require_graph_mode(network) if _has_leaky_relu(network) else None
    messages = (message,) if note is None else (message, note)
    return KerasSource(file, hashlib.sha256(file.read_bytes()).hexdigest(), network, contract, messages)


def _has_leaky_relu(network: keras.Model) -> bool:
    """Whether graph mode, which other programs use, is known to lose something of a layer; here eager mode is used."""
    leaky = keras.activations.leaky_relu
    return any(
        getattr(layer, "negative_slope", 0) or getattr(layer, "activation", None) is leaky or _is_leaky_submodel(layer)
        for layer in network.layers
    )


def _is_leaky_submodel(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.Model) and _has_leaky_relu(layer)


def _locate_files(path: Path) -> tuple[Path, Path | None]:
    """The .keras file and, if it is a training run's, the contract that lies beside it."""
    file = path / RUN_MODEL_NAME if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"There is no Keras model {file}.")
    if file.suffix != ".keras":
        raise UsageError(f"{file} is not a .keras file. In Keras: model.save('model.keras'), then export that.")
    contract = file.with_name("contract.json")
    return file, contract if file.name == RUN_MODEL_NAME and contract.is_file() else None


def _load(file: Path) -> keras.Model:
    try:
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # Keras, zipfile and h5py raise whatever they like for a damaged or unknown file
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"Keras cannot load {file}: {reason}") from error


def _read_contract(file: Path) -> Contract:
    try:
        return Contract.from_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"The contract {file} cannot be read: {error}.") from error


def _default_contract(interface: KerasInterface) -> Contract:
    return Contract(
        shape=interface.shape,
        channels=interface.channels,
        outputs=interface.outputs,
        labels=Contract.labels if interface.outputs <= 2 else tuple(f"class {n}" for n in range(interface.outputs)),
        activation=interface.activation,
    )


def _override_contract(contract: Contract, labels: Sequence[str] | None, orientation: str | None) -> Contract:
    try:
        return replace(
            contract,
            labels=tuple(labels) if labels else contract.labels,
            orientation=orientation or contract.orientation,
        )
    except ContractError as error:  # what was asked for, not what was found
        raise UsageError(str(error)) from error


def _default_remark(file: Path, contract: Contract, labels: Sequence[str] | None) -> str:
    named = "" if labels else f" and the class names {', '.join(contract.labels)} (name them with `labels=`)"
    low, high = contract.hu_window
    return (
        f"{file.name} came without a contract: it gets the default one (HU {low:g} to {high:g}, orientation "
        f"{contract.orientation}, a quarter turn) with its own input size {'x'.join(map(str, contract.shape))}{named}."
    )


def _require_matching_contract(contract: Contract, own: Contract, path: Path) -> Contract:
    for name in ("shape", "channels", "outputs", "activation"):
        if getattr(contract, name) != getattr(own, name):
            raise ContractError(
                f"{path} says {name} = {getattr(contract, name)!r}, but the network beside it has "
                f"{getattr(own, name)!r}. They do not belong together."
            )
    return contract
