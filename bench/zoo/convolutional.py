"""Convolutional networks: residual, dense, factorised, mobile, and with decoders."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from bench.zoo.blocks import Size, Tensor, classify, conv, squeeze_excite, volume_input
from ct3d_edge.training.network import TUTORIAL


def width(size: Size, channels: int) -> int:
    """Channels of a layer; an eighth of the published number in the tests, four at least."""
    return channels if size == "full" else max(4, channels // 8)


def published(size: Size) -> keras.Model:
    """The tutorial's network, on the smallest volume that it takes in the tests."""
    return TUTORIAL.build(*((128, 128, 64) if size == "full" else (48, 48, 48)))


def _stem(size: Size, channels: int) -> tuple[Tensor, Tensor]:
    volume = volume_input(size)
    x = conv(volume, width(size, channels), 7 if size == "full" else 3, strides=2)
    return volume, layers.MaxPooling3D(3, 2, padding="same")(x) if size == "full" else x


def _shortcut(x: Tensor, channels: int, stride: int) -> Tensor:
    if x.shape[-1] == channels and stride == 1:
        return x
    return conv(x, channels, 1, strides=stride, activation=None)


def _basic(x: Tensor, channels: int, stride: int) -> Tensor:
    y = conv(conv(x, channels, strides=stride), channels, activation=None)
    return layers.ReLU()(layers.Add()([_shortcut(x, channels, stride), y]))


def _bottleneck(x: Tensor, channels: int, stride: int, *, excite: bool = False) -> Tensor:
    y = conv(conv(conv(x, channels, 1), channels, strides=stride), 4 * channels, 1, activation=None)
    y = squeeze_excite(y, 16) if excite else y
    return layers.ReLU()(layers.Add()([_shortcut(x, 4 * channels, stride), y]))


def _stages(x: Tensor, size: Size, block: Any, counts: Sequence[int], widths: Sequence[int]) -> Tensor:
    for stage, (count, channels) in enumerate(zip(counts, widths, strict=True)):
        for number in range(count if size == "full" else 1):
            x = block(x, width(size, channels), 2 if stage and number == 0 else 1)
    return x


def resnet18(size: Size) -> keras.Model:
    """Residual network of basic blocks (He et al. 2016; Hara et al. 2018 in 3D)."""
    volume, x = _stem(size, 64)
    return classify(volume, _stages(x, size, _basic, (2, 2, 2, 2), (64, 128, 256, 512)))


def resnet50(size: Size) -> keras.Model:
    """Residual network of bottlenecks."""
    volume, x = _stem(size, 64)
    return classify(volume, _stages(x, size, _bottleneck, (3, 4, 6, 3), (64, 128, 256, 512)))


def seresnet50(size: Size) -> keras.Model:
    """The same with squeeze-and-excitation."""

    def block(x: Tensor, channels: int, stride: int) -> Tensor:
        return _bottleneck(x, channels, stride, excite=True)

    volume, x = _stem(size, 64)
    return classify(volume, _stages(x, size, block, (3, 4, 6, 3), (64, 128, 256, 512)))


def r2plus1d(size: Size) -> keras.Model:
    """Convolutions within planes, then across them (Tran et al. 2018)."""

    def factorised(x: Tensor, channels: int, stride: int) -> Tensor:
        x = conv(x, channels, (3, 3, 1), strides=(stride, stride, 1))
        return conv(x, channels, (1, 1, 3), strides=(1, 1, stride))

    def block(x: Tensor, channels: int, stride: int) -> Tensor:
        y = factorised(factorised(x, channels, stride), channels, 1)
        return layers.ReLU()(layers.Add()([_shortcut(x, channels, stride), y]))

    volume, x = _stem(size, 64)
    return classify(volume, _stages(x, size, block, (2, 2, 2, 2), (64, 128, 256, 512)))


def mixed(size: Size) -> keras.Model:
    """3D convolutions first, planar ones behind (MC3, Tran et al. 2018)."""
    volume, x = _stem(size, 64)
    x = _stages(x, size, _basic, (2,), (64,))
    for channels in (128, 256, 512):
        x = conv(x, width(size, channels), (3, 3, 1), strides=2)
    return classify(volume, x)


def densenet121(size: Size) -> keras.Model:
    """Every layer reads all before it (Huang et al. 2017)."""
    volume, x = _stem(size, 64)
    for stage, count in enumerate((6, 12, 24, 16)):
        for _ in range(count if size == "full" else 3):
            y = layers.ReLU()(layers.BatchNormalization()(x))
            y = layers.Conv3D(width(size, 128), 1, use_bias=False)(y)
            y = layers.ReLU()(layers.BatchNormalization()(y))
            y = layers.Conv3D(width(size, 32), 3, padding="same", use_bias=False)(y)
            x = layers.Concatenate()([x, y])
        if stage < 3:
            x = layers.ReLU()(layers.BatchNormalization()(x))
            x = layers.AveragePooling3D(2)(layers.Conv3D(x.shape[-1] // 2, 1, use_bias=False)(x))
    return classify(volume, layers.ReLU()(layers.BatchNormalization()(x)))


def _inverted(x: Tensor, channels: int, expansion: int, kernel: int, stride: int, activation: str) -> Tensor:
    """Wider, one filter a channel, squeeze-and-excitation, narrow again."""
    inner = x.shape[-1] * expansion
    y = conv(x, inner, 1, activation=activation)
    y = conv(y, inner, kernel, strides=stride, groups=inner, activation=activation)
    y = conv(squeeze_excite(y), channels, 1, activation=None)
    return layers.Add()([x, y]) if stride == 1 and x.shape[-1] == channels else y


def x3d(size: Size) -> keras.Model:
    """X3D-M (Feichtenhofer 2020)."""
    volume, x = _stem(size, 24)
    for channels, count in ((24, 3), (48, 5), (96, 11), (192, 7)):
        for number in range(count if size == "full" else 1):
            x = _inverted(x, width(size, channels), 2, 3, 2 if number == 0 else 1, "swish")
    return classify(volume, conv(x, width(size, 432), 1, activation="swish"))


def efficientnet(size: Size) -> keras.Model:
    """EfficientNet-B0 in 3D (Tan & Le 2019)."""
    volume, x = _stem(size, 32)
    stages = (
        (16, 1, 1, 3, 1),
        (24, 6, 2, 3, 2),
        (40, 6, 2, 5, 2),
        (80, 6, 3, 3, 2),
        (112, 6, 3, 5, 1),
        (192, 6, 4, 5, 2),
    )
    for channels, expansion, count, kernel, stride in stages:
        for number in range(count if size == "full" else 1):
            x = _inverted(x, width(size, channels), expansion, kernel, stride if number == 0 else 1, "swish")
    return classify(volume, conv(x, width(size, 1280), 1, activation="swish"))


def convnext(size: Size) -> keras.Model:
    """ConvNeXt-T in 3D (Liu et al. 2022)."""
    volume = volume_input(size)
    x = layers.Conv3D(width(size, 96), 4, 4)(volume)
    for published_channels, count in ((96, 3), (192, 3), (384, 9), (768, 3)):
        channels = width(size, published_channels)
        if channels != x.shape[-1]:
            x = layers.Conv3D(channels, 2, 2, padding="same")(layers.LayerNormalization(epsilon=1e-6)(x))
        for _ in range(count if size == "full" else 1):
            y = layers.Conv3D(channels, 7, padding="same", groups=channels)(x)
            y = layers.Dense(4 * channels, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(y))
            x = layers.Add()([x, layers.Dense(channels)(y)])
    return classify(volume, layers.LayerNormalization(epsilon=1e-6)(x))


def unet_encoder(size: Size) -> keras.Model:
    """Contracting path of U-Net (Çiçek et al. 2016)."""
    volume = volume_input(size)
    return classify(volume, _contract(volume, size)[-1])


def _contract(x: Tensor, size: Size) -> list[Tensor]:
    scales: list[Tensor] = []
    for channels in (32, 64, 128, 256):
        x = layers.MaxPooling3D(2)(x) if scales else x
        x = conv(conv(x, width(size, channels)), width(size, 2 * channels))
        scales.append(x)
    return scales


def unet(size: Size) -> keras.Model:
    """With the expanding path: transposed convolutions, and the features of each scale."""
    volume = volume_input(size)
    *scales, x = _contract(volume, size)
    for scale in reversed(scales):
        x = layers.Conv3DTranspose(scale.shape[-1], 2, 2)(x)
        x = conv(layers.Concatenate()([scale, x]), scale.shape[-1])
    return classify(volume, x)


def upsampling_unet(size: Size) -> keras.Model:
    """With repeated voxels instead of transposed convolutions, and other windows for them."""
    volume = volume_input(size)
    *scales, x = _contract(volume, size)
    for scale in reversed(scales):
        x = conv(layers.Concatenate()([scale, layers.UpSampling3D(2)(x)]), scale.shape[-1])
    return classify(volume, layers.Conv3DTranspose(4, 3, 2, padding="same")(x))


def cbam(size: Size) -> keras.Model:
    """Attention to channels, then to places (Woo et al. 2018)."""
    volume, x = _stem(size, 64)
    for channels in (64, 128):
        x = conv(x, width(size, channels), strides=2)
        shared = keras.Sequential([layers.Dense(4, activation="relu"), layers.Dense(x.shape[-1])])
        pooled = [layers.GlobalAveragePooling3D(keepdims=True)(x), layers.GlobalMaxPooling3D(keepdims=True)(x)]
        x = x * keras.ops.sigmoid(shared(pooled[0]) + shared(pooled[1]))
        places = keras.ops.concatenate([keras.ops.mean(x, -1, keepdims=True), keras.ops.max(x, -1, keepdims=True)], -1)
        x = x * layers.Conv3D(1, 7, padding="same", activation="sigmoid")(places)
    return classify(volume, x)


def aspp(size: Size) -> keras.Model:
    """Dilated convolutions side by side, and the mean of all (DeepLab, Chen et al. 2017)."""
    volume, x = _stem(size, 64)
    branches = [conv(x, width(size, 64), 1)]
    branches += [conv(x, width(size, 64), 3, dilation_rate=rate) for rate in (2, 3, 6)]
    mean = conv(layers.GlobalAveragePooling3D(keepdims=True)(x), width(size, 64), 1)
    branches.append(layers.UpSampling3D(x.shape[1:4])(mean))
    return classify(volume, conv(layers.Concatenate()(branches), width(size, 64), 1))


def _thin(normalisation: Any, activation: Any, size: Size) -> keras.Model:
    volume = volume_input(size)
    x = volume
    for channels in (8, 16, 32):
        x = layers.Conv3D(channels, 3, padding="same")(x)
        x = layers.MaxPooling3D(2)(activation()(normalisation()(x)))
    return classify(volume, x)


def group_norm(size: Size) -> keras.Model:
    """Group normalisation (Wu & He 2018)."""
    return _thin(lambda: layers.GroupNormalization(4), layers.ReLU, size)


def layer_norm(size: Size) -> keras.Model:
    """Layer normalisation over channels."""
    return _thin(layers.LayerNormalization, layers.ReLU, size)


def instance_norm(size: Size) -> keras.Model:
    """Instance normalisation (Ulyanov et al. 2016): as many groups as channels."""
    return _thin(lambda: layers.GroupNormalization(-1), lambda: layers.LeakyReLU(0.01), size)


def gelu(size: Size) -> keras.Model:
    """GELU by the error function."""
    return _thin(layers.BatchNormalization, lambda: layers.Activation("gelu"), size)


def silu(size: Size) -> keras.Model:
    """SiLU."""
    return _thin(layers.BatchNormalization, lambda: layers.Activation("silu"), size)


def mish(size: Size) -> keras.Model:
    """Mish."""
    return _thin(layers.BatchNormalization, lambda: layers.Activation("mish"), size)


def prelu(size: Size) -> keras.Model:
    """A slope for each channel, learnt."""
    return _thin(
        layers.BatchNormalization,
        lambda: layers.PReLU(shared_axes=[1, 2, 3], alpha_initializer=keras.initializers.Constant(0.2)),
        size,
    )
