"""The published tutorial's network for one CT volume, with the weights, loss and optimizer of a run.

Four convolution blocks, then two dense layers.

Source: "3D image classification from CT scans", Keras code examples, H. Zunair, after Zunair et al. 2020,
"Uniformizing Techniques to Process CT Scans with 3D CNNs for Tuberculosis Prediction" (arXiv 2007.13224).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.training.presets import Preset

FILTERS = (64, 64, 128, 256)
"""Output channels of the four convolutions."""

KERNEL, POOL = 3, 2
HIDDEN_UNITS = 512
DROPOUT_RATE = 0.3


def build_model(width: int, height: int, depth: int) -> keras.Model:
    """Build the network with fresh weights, 1,352,897 of them (1,024 not trainable) at every input size.

    Parameters
    ----------
    width, height, depth
        Input size in voxels. Input ``(N, W, H, D, 1)`` float32 in [0, 1]; output ``(N, 1)`` float32, the
        probability of the second of two classes.

    Raises
    ------
    UsageError
        If a side is smaller than ``smallest_size()``.
    """
    for axis, size in (("width", width), ("height", height), ("depth", depth)):
        _require_size(axis, size)
    volume = keras.Input((width, height, depth, 1))
    features = volume
    for filters in FILTERS:
        features = _block(features, filters)
    features = keras.layers.GlobalAveragePooling3D()(features)
    features = keras.layers.Dense(HIDDEN_UNITS, activation="relu")(features)
    features = keras.layers.Dropout(DROPOUT_RATE)(features)
    # In float32 under every precision policy: near 0 and 1 half precision would round probabilities off.
    probability = keras.layers.Dense(1, activation="sigmoid", dtype="float32")(features)
    return keras.Model(volume, probability, name="3dcnn")


def smallest_size() -> int:
    """Smallest side in voxels of which the four blocks leave at least one: 46."""
    return next(size for size in count(1) if _size_after_blocks(size) >= 1)


def _block(features: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    features = keras.layers.Conv3D(filters, KERNEL, activation="relu")(features)
    features = keras.layers.MaxPool3D(POOL)(features)
    return keras.layers.BatchNormalization()(features)


def _size_after_blocks(size: int) -> int:
    """Voxels left along one axis: a convolution without padding takes ``KERNEL - 1``, pooling floors."""
    for _ in FILTERS:
        size = (size - KERNEL + 1) // POOL
    return size


def _require_size(axis: str, size: int) -> None:
    smallest = smallest_size()
    if size < smallest:
        raise UsageError(f"The input {axis} is {size} voxels; this network needs at least {smallest}.")


Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]

DECAY_STEPS, DECAY_RATE = 100_000, 0.96
"""Of the staircase; the published tutorial's."""

COSINE_END = 0.01
"""Share of the learning rate that is left in the last epoch."""

Weights = Sequence[NDArray[np.generic]]


def build_untrained(contract: Contract, momentum: float, initial: Weights | None) -> keras.Model:
    """Build the network for a contract's input, with fresh weights or given ones."""
    model = build_model(*contract.shape)
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


def read_weights(file: Path, size: tuple[int, int, int]) -> Weights:
    """Read the weights of an earlier run; the network has the same ones at every input size.

    Raises
    ------
    UsageError
        If the file cannot be loaded, or holds another network.
    """
    try:
        model = build_model(*size)
        model.set_weights(keras.saving.load_model(file, compile=False, safe_mode=True).get_weights())
    except UsageError:
        raise
    except Exception as error:  # Keras, zipfile and h5py raise many kinds of errors for a damaged or unknown file
        raise UsageError(f"Cannot start from the weights in {file}: {error}") from error
    weights: Weights = model.get_weights()
    return weights


def copy_for_inference(contract: Contract, weights: Weights) -> keras.Model:
    """Build the network alone, in float32: Adam's moments belong to the last epoch and double the file's size."""
    model = build_model(*contract.shape)
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
