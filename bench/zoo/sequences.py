"""Transformers on volumes, and networks that read a volume slice by slice."""

import keras
from keras import layers, ops

from bench.zoo.blocks import Size, Tensor, classify, transformer_block, volume_input
from bench.zoo.convolutional import width


@keras.saving.register_keras_serializable("zoo")
class PositionEmbedding(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """A vector that is added to each token, learnt."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the vectors."""
        self.table = self.add_weight(shape=(1, *shape[1:]), initializer="random_normal", name="table")

    def call(self, tokens: Tensor) -> Tensor:
        """Add them."""
        return tokens + self.table


def vit(size: Size) -> keras.Model:
    """Vision transformer, patches of 16 voxels (Dosovitskiy et al. 2021)."""
    volume = volume_input(size)
    channels, patch = (768, 16) if size == "full" else (32, 8)
    x = layers.Conv3D(channels, patch, patch)(volume)
    x = PositionEmbedding()(layers.Reshape((-1, channels))(x))
    for _ in range(12 if size == "full" else 2):
        x = transformer_block(x, 12 if size == "full" else 4)
    return classify(volume, layers.LayerNormalization(epsilon=1e-6)(x))


def swin(size: Size) -> keras.Model:
    """Attention within windows, shifted in every other block (Liu et al. 2021), on volumes (Tang et al. 2022)."""
    volume = volume_input(size)
    x = layers.Conv3D(width(size, 96), 4, 4)(volume)
    for stage, heads in enumerate((3, 6, 12) if size == "full" else (2, 2)):
        if stage:
            x = _merge_patches(x)
        for shift in (0, 2):
            x = _window_block(x, heads, (4, 4, 4), shift if min(x.shape[1:4]) > 4 else 0)
    return classify(volume, x)


def _merge_patches(x: Tensor) -> Tensor:
    """Eight neighbours side by side, and half as many channels of them."""
    corners = [x[:, i::2, j::2, k::2] for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    merged = layers.LayerNormalization(epsilon=1e-6)(layers.Concatenate()(corners))
    return layers.Dense(2 * x.shape[-1], use_bias=False)(merged)


def _window_block(x: Tensor, heads: int, window: tuple[int, int, int], shift: int) -> Tensor:
    """A transformer block over each window; the volume is rolled by ``shift`` before and after."""
    sides, channels = x.shape[1:4], x.shape[4]
    window = tuple(min(side, length) for side, length in zip(sides, window, strict=True))
    counts = [side // length for side, length in zip(sides, window, strict=True)]
    x = ops.roll(x, (-shift,) * 3, (1, 2, 3)) if shift else x
    y = ops.reshape(x, (-1, counts[0], window[0], counts[1], window[1], counts[2], window[2], channels))
    y = ops.reshape(ops.transpose(y, (0, 1, 3, 5, 2, 4, 6, 7)), (-1, window[0] * window[1] * window[2], channels))
    y = transformer_block(y, heads)
    y = ops.transpose(ops.reshape(y, (-1, *counts, *window, channels)), (0, 1, 4, 2, 5, 3, 6, 7))
    y = ops.reshape(y, (-1, *sides, channels))
    return ops.roll(y, (shift,) * 3, (1, 2, 3)) if shift else y


def _slice_features(size: Size) -> tuple[Tensor, Tensor]:
    """Features ``(slices, channels)`` of each axial slice by a planar network."""
    volume = volume_input(size)
    slices = layers.Permute((3, 1, 2, 4))(volume)
    planar = keras.Sequential(name="planar")
    for channels in (64, 128, 256):
        planar.add(layers.Conv2D(width(size, channels), 3, padding="same", activation="relu"))
        planar.add(layers.BatchNormalization())
        planar.add(layers.MaxPooling2D(2))
    planar.add(layers.GlobalAveragePooling2D())
    return volume, layers.TimeDistributed(planar)(slices)


def slices_lstm(size: Size) -> keras.Model:
    """2.5D: features of slices, then an LSTM in both directions."""
    volume, x = _slice_features(size)
    return classify(volume, layers.Bidirectional(layers.LSTM(width(size, 128)))(x))


def slices_gru(size: Size) -> keras.Model:
    """2.5D with a GRU."""
    volume, x = _slice_features(size)
    return classify(volume, layers.GRU(width(size, 128))(x))


def slices_attention(size: Size) -> keras.Model:
    """2.5D with attention pooling over slices (Ilse et al. 2018)."""
    volume, x = _slice_features(size)
    weights = layers.Softmax(axis=1)(layers.Dense(1)(layers.Dense(width(size, 128), activation="tanh")(x)))
    return classify(volume, ops.sum(weights * x, axis=1))


def conv_lstm(size: Size) -> keras.Model:
    """Convolutional LSTM over slices (Shi et al. 2015), behind a 3D convolution."""
    volume = volume_input(size)
    x = layers.Conv3D(8, 3, (4, 4, 2), padding="same", activation="relu")(volume)
    x = layers.Permute((3, 1, 2, 4))(layers.MaxPooling3D(2)(x))
    x = layers.ConvLSTM2D(width(size, 64), 3, padding="same")(x)
    return classify(volume, layers.GlobalAveragePooling2D()(x))


def normalised_input(size: Size) -> keras.Model:
    """Constants that a layer holds outside its variables."""
    volume = volume_input(size)
    x = layers.Normalization(mean=[0.4], variance=[0.1])(volume)
    return classify(volume, layers.MaxPooling3D(2)(layers.Conv3D(8, 3, activation="relu")(x)))
