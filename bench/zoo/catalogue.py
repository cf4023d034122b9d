"""Every architecture of the zoo by its name."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from bench.zoo import convolutional, sequences
from bench.zoo.blocks import Size, set_plausible_weights

if TYPE_CHECKING:
    import keras

BuildFn = Callable[[Size], "keras.Model"]

ARCHITECTURES: dict[str, BuildFn] = {
    build.__name__.replace("_", "-"): build
    for build in (
        convolutional.published,
        convolutional.resnet18,
        convolutional.resnet50,
        convolutional.seresnet50,
        convolutional.densenet121,
        convolutional.r2plus1d,
        convolutional.mixed,
        convolutional.x3d,
        convolutional.efficientnet,
        convolutional.convnext,
        convolutional.unet_encoder,
        convolutional.unet,
        convolutional.upsampling_unet,
        convolutional.cbam,
        convolutional.aspp,
        convolutional.group_norm,
        convolutional.layer_norm,
        convolutional.instance_norm,
        convolutional.gelu,
        convolutional.silu,
        convolutional.mish,
        convolutional.prelu,
        sequences.vit,
        sequences.swin,
        sequences.slices_lstm,
        sequences.slices_gru,
        sequences.slices_attention,
        sequences.conv_lstm,
        sequences.normalised_input,
    )
}


def build_network(name: str, size: Size) -> "keras.Model":
    """A network of the zoo with weights of a fixed seed."""
    import keras

    keras.utils.set_random_seed(1)
    return set_plausible_weights(ARCHITECTURES[name](size))
