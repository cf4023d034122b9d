"""Parts that several architectures share: normalised convolutions, attention, and the classifying head."""

from typing import Any, Literal

import keras
from keras import layers

Tensor = Any
Size = Literal["small", "full"]


def volume_input(size: Size) -> Tensor:
    """A CT volume ``(W, H, D, 1)``: of the tests, or of the published network's size."""
    return keras.Input(((32, 32, 16) if size == "small" else (128, 128, 64)) + (1,), name="volume")


def classify(volume: Tensor, x: Tensor) -> keras.Model:
    """Pool what is left of the volume, and one probability."""
    if len(x.shape) > 2:
        x = layers.GlobalAveragePooling3D()(x) if len(x.shape) == 5 else layers.GlobalAveragePooling1D()(x)
    return keras.Model(volume, layers.Dense(1, activation="sigmoid")(x))


def conv(x: Tensor, filters: int, kernel: Any = 3, *, activation: Any = "relu", **window: Any) -> Tensor:
    """Convolution, batch normalisation, activation."""
    x = layers.Conv3D(filters, kernel, padding="same", use_bias=False, **window)(x)
    x = layers.BatchNormalization()(x)
    return layers.Activation(activation)(x) if activation else x


def squeeze_excite(x: Tensor, ratio: int = 4) -> Tensor:
    """Weights of channels from their means (Hu et al. 2018)."""
    channels = x.shape[-1]
    weights = layers.GlobalAveragePooling3D(keepdims=True)(x)
    weights = layers.Conv3D(max(1, channels // ratio), 1, activation="relu")(weights)
    return x * layers.Conv3D(channels, 1, activation="sigmoid")(weights)


def transformer_block(x: Tensor, heads: int, activation: str = "gelu") -> Tensor:
    """Attention and two dense layers, normalised before (Xiong et al. 2020)."""
    channels = x.shape[-1]
    normalised = layers.LayerNormalization(epsilon=1e-6)(x)
    x = x + layers.MultiHeadAttention(heads, channels // heads)(normalised, normalised)
    y = layers.Dense(4 * channels, activation=activation)(layers.LayerNormalization(epsilon=1e-6)(x))
    return x + layers.Dense(channels)(y)


def set_plausible_weights(network: keras.Model, seed: int = 0) -> keras.Model:
    """Statistics and scales as training leaves them, so that a wrong factor or order shows in the output."""
    import numpy as np

    draw = np.random.default_rng(seed)
    for layer in network._flatten_layers(include_self=False):
        if isinstance(layer, layers.BatchNormalization | layers.LayerNormalization | layers.GroupNormalization):
            for weight in layer.weights:
                kind = weight.path.rsplit("/", 1)[-1]
                spread = draw.uniform(0.5, 1.5, weight.shape)
                centre = draw.normal(0, 0.2, weight.shape)
                weight.assign(spread if kind in ("gamma", "moving_variance") else centre)
    return network
