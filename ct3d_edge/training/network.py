"""The network of a run: built, given its first weights, its loss and its optimizer; and, in the end, freed of them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.training.architecture import build_model
from ct3d_edge.training.presets import Preset

Precision = Literal["float32", "mixed_float16", "mixed_bfloat16"]

DECAY_STEPS, DECAY_RATE = 100_000, 0.96
"""Of the staircase; the published tutorial's."""

COSINE_END = 0.01
"""Share of the learning rate that is left in the last epoch."""

Weights = Sequence[NDArray[np.generic]]


def untrained(contract: Contract, momentum: float, initial: Weights | None) -> keras.Model:
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


def weights_of(file: Path, size: tuple[int, int, int]) -> Weights:
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
    except Exception as error:  # Keras, zipfile and h5py raise whatever they like for a damaged or unknown file
        raise UsageError(f"Cannot start from the weights in {file}: {error}") from error
    weights: Weights = model.get_weights()
    return weights


def bare(contract: Contract, weights: Weights) -> keras.Model:
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
            "--precision mixed_float16 needs a GPU, and TensorFlow sees none here: it has no pooling in half precision "
            "for CPUs. Choose float32, or mixed_bfloat16, which it computes on CPUs as well."
        )


@contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
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
