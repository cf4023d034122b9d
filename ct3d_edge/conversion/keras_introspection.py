"""What a Keras network takes and gives: read off the network, then tried on it."""

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
"""Up to so many values along a last axis are the channels of a flat picture, not slices."""

TRANSPARENT = ("Dropout", "Flatten", "Identity", "Reshape")
"""Layers behind the last activation that change no value in inference."""

PROBABILITY_ATOL = 1e-3
"""How far probabilities in half precision may lie outside [0, 1] or from a sum of one."""


@dataclass(frozen=True)
class KerasInterface:
    """What a network takes and gives.

    Parameters
    ----------
    shape, channels
        Of its input, as in `Contract`.
    outputs
        Length of its output vector.
    activation
        What is still missing to make probabilities of it.
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
    """Find out what a network takes and gives, and run it once to see that this is so.

    Parameters
    ----------
    file
        Where it came from, for messages.
    network
        One volume in, one vector out.
    size
        ``(W, H, D)`` where the network leaves its input size open.
    activation
        What is still missing, if the caller knows it; None to read it off the last layer.

    Raises
    ------
    ModelError
        The network is not one volume in and one vector out, or its answers are not what its last layer promises.
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
        raise ModelError(f"{file} answers with shape ('batch', {output}); a vector of classes can be exported.")
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
        raise UsageError(f"{file} leaves its input size open {found}. Say which: `shape=(128, 128, 64)`")
    w, h, d = (int(n) for n in wanted if n is not None)
    return (w, h, d), channels


def _channel_axis(file: Path, shape: tuple[int | None, ...]) -> tuple[Channels, slice]:
    """Where the axis of length one is, and which axes are the volume's."""
    if len(shape) == SPATIAL_AXES + 1 and shape[-1] == 1:
        return "last", slice(0, 3)
    if len(shape) == SPATIAL_AXES + 1 and shape[0] == 1:
        return "first", slice(1, 4)
    if len(shape) == SPATIAL_AXES and (shape[-1] is None or shape[-1] > COLOURS):
        return "none", slice(0, 3)
    raise ModelError(f"{file} takes an input of shape {shape}; one volume with one channel can be exported.")


def _missing_activation(file: Path, network: keras.Model, outputs: int) -> Activation:
    """What turns the output into probabilities: nothing if the last operation does it, else what fits its length."""
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
        f"{file} ends in '{name}', which does not tell whether it gives probabilities. "
        "Say what is still missing: `activation=identity`, sigmoid or softmax"
    )


def _last_activation(network: keras.Model) -> str:
    """Name of the operation that makes the output, looking into nested models and through layers that only pass on.

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
    """Run the network on two inputs: what is to be probabilities must look like them."""
    volumes = np.stack([make_phantom_volume(seed, interface.shape) for seed in (1, 2)])
    channel = {"last": -1, "first": 1}.get(interface.channels)
    batch = volumes if channel is None else np.expand_dims(volumes, channel)
    try:
        answers = np.asarray(keras.ops.convert_to_numpy(network(batch, training=False)), np.float64)
    except Exception as error:  # whatever the layers raise
        raise ModelError(f"Keras cannot run {file} on a volume of {interface.shape}: {keras_reason(error)}") from error
    if interface.activation == "identity" and not _are_probabilities(answers):
        raise ModelError(
            f"{file} gives values from {answers.min():.3g} to {answers.max():.3g}, which are no probabilities. "
            "Say what is still missing: `activation=sigmoid` or softmax"
        )


def _are_probabilities(answers: NDArray[np.float64]) -> bool:
    inside = bool(((answers >= -PROBABILITY_ATOL) & (answers <= 1 + PROBABILITY_ATOL)).all())
    return inside and (answers.shape[1] == 1 or bool((np.abs(answers.sum(axis=1) - 1) < PROBABILITY_ATOL).all()))
