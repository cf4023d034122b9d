"""Networks for one CT volume, with the weights, loss and optimizer of a run.

The published tutorial's has four convolution blocks, then two dense layers. Source: "3D image classification from CT
scans", Keras code examples, H. Zunair, after Zunair et al. 2020, "Uniformizing Techniques to Process CT Scans with 3D
CNNs for Tuberculosis Prediction" (arXiv 2007.13224). The light ones are shorter chains of the same blocks.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Protocol

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.training.custom_network import CustomNetwork
from ct3d_edge.training.presets import Preset

KERNEL, POOL = 3, 2


@dataclass(frozen=True)
class NetworkSpec:
    """A chain of convolution blocks, then two dense layers.

    Input ``(N, W, H, D, 1)`` float32 in [0, 1]; output ``(N, 1)`` float32, the probability of the second of two
    classes. The weights have the same shapes at every input size. A block is a convolution of 3 x 3 x 3 voxels without
    padding, ReLU, max pooling of 2 x 2 x 2 voxels and batch normalisation. The last block's channels are averaged
    over the volume.

    Parameters
    ----------
    name
        In `NETWORKS`.
    filters
        Output channels of the convolutions, one a block.
    stem_stride
        Stride of the first convolution along each axis.
    stem_pool
        Whether the first block pools.
    hidden_units
        Outputs of the first dense layer.
    dropout
        Share of these that are dropped in training.
    """

    name: str
    filters: tuple[int, ...]
    stem_stride: int = 1
    stem_pool: bool = True
    hidden_units: int = 512
    dropout: float = 0.3

    @property
    def identity(self) -> str:
        """What a checkpoint is compared by."""
        return self.name

    def build(self, width: int, height: int, depth: int) -> keras.Model:
        """Build the network with fresh weights for an input of ``width x height x depth`` voxels.

        Raises
        ------
        UsageError
            If a side is smaller than ``smallest_size()``.
        """
        for axis, size in (("width", width), ("height", height), ("depth", depth)):
            self._require_size(axis, size)
        volume = keras.Input((width, height, depth, 1))
        features = volume
        for filters, (stride, pool) in zip(self.filters, self._steps(), strict=True):
            features = keras.layers.Conv3D(filters, KERNEL, stride, activation="relu")(features)
            features = keras.layers.MaxPool3D(POOL)(features) if pool > 1 else features
            features = keras.layers.BatchNormalization()(features)
        features = keras.layers.GlobalAveragePooling3D()(features)
        features = keras.layers.Dense(self.hidden_units, activation="relu")(features)
        features = keras.layers.Dropout(self.dropout)(features)
        # In float32 under every precision policy: near 0 and 1 half precision would round probabilities off.
        probability = keras.layers.Dense(1, activation="sigmoid", dtype="float32")(features)
        return keras.Model(volume, probability, name="3dcnn" if self == TUTORIAL else f"3dcnn-{self.name}")

    def smallest_size(self) -> int:
        """Smallest side in voxels of which the blocks leave at least one: 46 for the tutorial's network."""
        return next(size for size in count(KERNEL) if self._size_after_blocks(size) >= 1)

    def count_multiply_adds(self, size: tuple[int, int, int]) -> int:
        """Multiplications of the convolutions for one volume of this size."""
        sides, channels, total = list(size), 1, 0
        for filters, (stride, pool) in zip(self.filters, self._steps(), strict=True):
            sides = [(side - KERNEL) // stride + 1 for side in sides]
            total += math.prod(sides) * KERNEL**3 * channels * filters
            sides, channels = [side // pool for side in sides], filters
        return total

    def _steps(self) -> list[tuple[int, int]]:
        """Stride and pooling of each block."""
        return [(self.stem_stride, POOL if self.stem_pool else 1), *[(1, POOL)] * (len(self.filters) - 1)]

    def _size_after_blocks(self, size: int) -> int:
        """Voxels left along one axis: a convolution without padding takes ``KERNEL - 1``, strides and pooling floor."""
        for stride, pool in self._steps():
            size = ((size - KERNEL) // stride + 1) // pool
        return size

    def _require_size(self, axis: str, size: int) -> None:
        smallest = self.smallest_size()
        if size < smallest:
            raise UsageError(f"The input {axis} is {size} voxels; this network needs at least {smallest}.")


TUTORIAL = NetworkSpec("tutorial", (64, 64, 128, 256))
"""1,352,897 weights, 1,024 of them not trainable."""

NETWORKS: Mapping[str, NetworkSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            TUTORIAL,
            NetworkSpec("narrow", (16, 32, 64, 128)),
            NetworkSpec("stem", (16, 64, 128), stem_stride=2, hidden_units=128),
        )
    }
)
"""What `find_network` knows by name; docs/training.md has their sizes and times."""


class Network(Protocol):
    """What can be trained: `NetworkSpec`, `CustomNetwork`, `ct3d_edge.training.pruning.PrunedNetwork`."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def identity(self) -> str:
        """What a checkpoint is compared by."""

    def build(self, width: int, height: int, depth: int) -> keras.Model:
        """Build the network for an input of so many voxels."""


def find_network(name: str, others: Sequence[str] = ()) -> Network:
    """The network of a name in `NETWORKS`, or of a function of one's own.

    Parameters
    ----------
    name
        The name, or ``FILE.py:function``; see `CustomNetwork`.
    others
        What else the caller takes, for the message.

    Raises
    ------
    UsageError
        There is no such network, or the file cannot be imported.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if ".py:" in name:
        return CustomNetwork.load(name)
    raise UsageError(
        f"There is no network {name!r}; there are {', '.join([*NETWORKS, *others])}, and FILE.py:function for a Keras "
        "function of your own (docs/training.md)."
    )


Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]

DECAY_STEPS, DECAY_RATE = 100_000, 0.96
"""Of the staircase; the published tutorial's."""

COSINE_END = 0.01
"""Share of the learning rate that is left in the last epoch."""

Weights = Sequence[NDArray[np.generic]]


def build_untrained(network: Network, contract: Contract, momentum: float, initial: Weights | None) -> keras.Model:
    """Build a network for a contract's input, with fresh weights or given ones."""
    model = network.build(*contract.shape)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    if initial is not None:
        model.set_weights(initial)
    return model


def compile_for(model: keras.Model, preset: Preset, steps: int) -> None:
    """Give a network the optimizer, loss and metrics of a preset; ``steps`` are those of one epoch."""
    model.compile(
        keras.optimizers.Adam(_schedule(preset, steps)),
        loss="binary_crossentropy",
        metrics=["accuracy", keras.metrics.AUC(name="auc")],
    )


def read_weights(network: Network, file: Path, size: tuple[int, int, int]) -> Weights:
    """Read the weights of an earlier run; a network has the same ones at every input size.

    Raises
    ------
    UsageError
        If the file cannot be loaded, or holds another network.
    """
    model = network.build(*size)
    try:
        found = keras.saving.load_model(file, compile=False, safe_mode=True)
        weights: Weights = found.get_weights()
    except Exception as error:  # Keras, zipfile and h5py raise many kinds of errors for a damaged or unknown file
        raise UsageError(f"Cannot start from the weights in {file}: {error}") from error
    if [weight.shape for weight in weights] != [weight.shape for weight in model.get_weights()]:
        raise UsageError(
            f"Cannot start from the weights in {file}: it holds {found.name}, {found.count_params():,} weights; the "
            f"network {network.name} has {model.count_params():,} in other shapes. Give `network=` that of the file."
        )
    return weights


def copy_for_inference(network: Network, contract: Contract, weights: Weights) -> keras.Model:
    """Build the network alone, in float32: Adam's moments belong to the last epoch and double the file's size."""
    model = network.build(*contract.shape)
    model.set_weights(weights)
    return model


def require_precision(precision: Precision) -> None:
    """Make sure that this machine can train in a precision.

    Raises
    ------
    UsageError
        If it cannot.
    """
    if precision == "mixed_float16" and not tf.config.list_physical_devices("GPU"):
        raise UsageError(
            "`precision=mixed_float16` needs a GPU, and TensorFlow sees none here: it has no pooling in half precision "
            "for CPUs. Choose float32, or mixed_bfloat16, which it computes on CPUs as well."
        )


@contextmanager
def use_precision(precision: Precision) -> Iterator[None]:
    """Let layers that are built in here compute in another precision; weights and the last layer stay float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _schedule(preset: Preset, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    schedules = keras.optimizers.schedules
    if preset.schedule == "staircase":
        return schedules.ExponentialDecay(preset.learning_rate, DECAY_STEPS, DECAY_RATE, staircase=True)
    return schedules.CosineDecay(
        preset.learning_rate / steps,
        max(1, (preset.epochs - 1) * steps),
        alpha=COSINE_END,
        warmup_target=preset.learning_rate,
        warmup_steps=steps,
    )
