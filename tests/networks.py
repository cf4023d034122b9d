"""Tiny Keras networks; Keras is imported when one is built, not before."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

KERAS = all(find_spec(name) for name in ("keras", "tensorflow", "tf2onnx"))
"""Whether the extra `train` is installed."""

SaveNetwork = Callable[..., Path]

SHAPE = (16, 12, 8)


def tiny_network(
    shape: tuple[int | None, ...] = (*SHAPE, 1), outputs: int = 1, activation: str | None = "sigmoid"
) -> Any:
    """A small network of the tutorial's kind: convolution, pooling, normalisation that changes something, head."""
    import keras

    keras.utils.set_random_seed(3)
    layers = keras.layers
    data_format = "channels_last" if shape[-1] == 1 else "channels_first"
    volume = keras.Input(shape)
    x = volume if len(shape) == 4 else layers.Reshape((*shape, 1))(volume)
    if data_format == "channels_first" and len(shape) == 4:
        x = layers.Permute((2, 3, 4, 1))(x)
    x = layers.Conv3D(4, 3, activation="relu")(x)
    x = layers.MaxPool3D(2)(x)
    x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling3D()(x)
    output = layers.Dense(outputs, activation=activation)(x)
    network = keras.Model(volume, output)
    draw = np.random.default_rng(0)
    for layer in network.layers:
        weights = [draw.normal(0, 0.3, w.shape) for w in layer.get_weights()]
        if isinstance(layer, layers.BatchNormalization):
            weights[3] = weights[3] ** 2 + 0.5  # a variance
        layer.set_weights(weights)
    return network
