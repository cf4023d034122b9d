"""Inspect input and output of a Keras network, and check them by running it."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Activation, Channels
from ct3d_edge.errors import ModelError, UsageError
from ct3d_edge.keras_backend import keras_reason
from ct3d_edge.modelfile.golden_input import make_phantom_volume

SPATIAL_AXES = 3
COLOURS = 4
"""Largest length of a last axis that is taken for the channels of a 2D image, not for slices."""

TRANSPARENT = ("Dropout", "Flatten", "Identity", "Reshape")
"""Layers after the last activation that change no value in inference."""

PROBABILITY_ATOL = 1e-3
"""Tolerance of probabilities in half precision: outside [0, 1], or from a sum of one."""


@dataclass(frozen=True)
class KerasInterface:
    """Input and output of a network.

    Parameters
    ----------
    shape, channels
        Of its input, as in `Contract`.
    outputs
        Length of its output vector.
    activation
        Activation that turns its output into probabilities.
    """

    shape: tuple[int, int, int]
    channels: Channels
    outputs: int
    activation: Activation


def inspect_interface(
    file: Path,
    network: keras.Model,
    *,
    size: tuple[int, int, int] | None = None,
    activation: Activation | None = None,
) -> KerasInterface:
    """Inspect input and output of a network, and run it once to check them.

    Parameters
    ----------
    file
        Its file, for messages.
    network
        A network from one volume to one vector.
    size
        ``(W, H, D)`` of a network with an open input size.
    activation
        Activation that turns its output into probabilities; None to derive it from the last layer.

    Raises
    ------
    ModelError
        The network does not map one volume to one vector, or its outputs are not those of its last activation.
    UsageError
        ``size`` is needed or contradicts the network.
    """
    if not getattr(network, "inputs", None):
        raise ModelError(f"{file} has never been given an input shape. Build it in Keras, then save it again.")
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ModelError(
            f"{file} has {len(network.inputs)} inputs and {len(network.outputs)} outputs; "
            "one volume in and one vector out can be exported."
        )
    if keras.backend.standardize_dtype(network.inputs[0].dtype) != "float32":
        raise ModelError(f"{file} takes {network.inputs[0].dtype}; a network that takes float32 can be exported.")
    shape, channels = _input_layout(file, tuple(network.inputs[0].shape[1:]), size)
    output = tuple(network.outputs[0].shape[1:])
    if len(output) != 1 or output[0] is None:
        raise ModelError(f"{file} returns shape ('batch', {output}); a vector of classes can be exported.")
    outputs = int(output[0])
    found = KerasInterface(shape, channels, outputs, activation or _missing_activation(file, network, outputs))
    _check_by_running(file, network, found)
    return found


def _input_layout(
    file: Path, shape: tuple[int | None, ...], size: tuple[int, int, int] | None
) -> tuple[tuple[int, int, int], Channels]:
    channels, axes = _channel_axis(file, shape)
    found = shape[axes]
    wanted = size or found
    if any(n is not None and n != m for n, m in zip(found, wanted, strict=True)):
        raise UsageError(f"{file} takes volumes of {found}, not of {wanted}. Leave out `shape=`.")
    if any(n is None for n in wanted):
        raise UsageError(f"{file} leaves its input size open {found}. Give it: `shape=(128, 128, 64)`")
    w, h, d = (int(n) for n in wanted if n is not None)
    return (w, h, d), channels


def _channel_axis(file: Path, shape: tuple[int | None, ...]) -> tuple[Channels, slice]:
    """Position of the channel axis, and the axes of the volume."""
    if len(shape) == SPATIAL_AXES + 1 and shape[-1] == 1:
        return "last", slice(0, 3)
    if len(shape) == SPATIAL_AXES + 1 and shape[0] == 1:
        return "first", slice(1, 4)
    if len(shape) == SPATIAL_AXES and (shape[-1] is None or shape[-1] > COLOURS):
        return "none", slice(0, 3)
    raise ModelError(f"{file} takes an input of shape {shape}; one volume with one channel can be exported.")


def _missing_activation(file: Path, network: keras.Model, outputs: int) -> Activation:
    """Activation that turns the output into probabilities: none if the last operation is one, else by its length."""
    name = _last_activation(network)
    if name == "sigmoid" and outputs > 1:
        raise ModelError(
            f"{file} ends in {outputs} independent sigmoids (several labels at once). One label a scan can be exported."
        )
    if name == "softmax" and outputs == 1:
        raise ModelError(f"{file} ends in a softmax over one value, which is always 1. It needs a sigmoid.")
    if name in ("sigmoid", "softmax"):
        return "identity"
    if name == "linear":
        return "sigmoid" if outputs == 1 else "softmax"
    raise ModelError(
        f"{file} ends in '{name}', which does not show whether it gives probabilities. "
        "Name the activation that is missing: `activation=identity`, sigmoid or softmax"
    )


def _last_activation(network: keras.Model) -> str:
    """Name of the operation that computes the output, inside nested models and before layers that change no value.

    ``network.layers`` would not do: it leaves out operations such as ``keras.ops.sigmoid``.
    """
    tensor = network.outputs[0]
    while True:
        operation, node, _ = tensor._keras_history
        kind = type(operation).__name__
        name = str(getattr(getattr(operation, "activation", None), "__name__", kind)).lower()
        if isinstance(operation, keras.Model):
            tensor = operation.outputs[0]
        elif kind in TRANSPARENT or (kind == "Activation" and name == "linear"):
            tensor = operation._inbound_nodes[node].input_tensors[0]
        else:
            return name


def _check_by_running(file: Path, network: keras.Model, interface: KerasInterface) -> None:
    """Run the network on two inputs: outputs that are declared probabilities must be ones."""
    volumes = np.stack([make_phantom_volume(seed, interface.shape) for seed in (1, 2)])
    channel = {"last": -1, "first": 1}.get(interface.channels)
    batch = volumes if channel is None else np.expand_dims(volumes, channel)
    try:
        outputs = np.asarray(keras.ops.convert_to_numpy(network(batch, training=False)), np.float64)
    except Exception as error:  # whatever the layers raise
        raise ModelError(f"Keras cannot run {file} on a volume of {interface.shape}: {keras_reason(error)}") from error
    if interface.activation == "identity" and not _are_probabilities(outputs):
        raise ModelError(
            f"{file} gives values from {outputs.min():.3g} to {outputs.max():.3g}, which are no probabilities. "
            "Name the activation that is missing: `activation=sigmoid` or softmax"
        )


def _are_probabilities(outputs: NDArray[np.float64]) -> bool:
    inside = bool(((outputs >= -PROBABILITY_ATOL) & (outputs <= 1 + PROBABILITY_ATOL)).all())
    return inside and (outputs.shape[1] == 1 or bool((np.abs(outputs.sum(axis=1) - 1) < PROBABILITY_ATOL).all()))
