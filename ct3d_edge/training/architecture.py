"""The published tutorial's network for one CT volume: four convolution blocks, then two dense layers.

Source: "3D image classification from CT scans", Keras code examples, H. Zunair, after Zunair et al. 2020,
"Uniformizing Techniques to Process CT Scans with 3D CNNs for Tuberculosis Prediction" (arXiv 2007.13224).
"""

from itertools import count

import keras

from ct3d_edge.errors import UsageError

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
    return next(size for size in count(1) if _size_behind_blocks(size) >= 1)


def _block(features: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    features = keras.layers.Conv3D(filters, KERNEL, activation="relu")(features)
    features = keras.layers.MaxPool3D(POOL)(features)
    return keras.layers.BatchNormalization()(features)


def _size_behind_blocks(size: int) -> int:
    """Voxels left along one axis: a convolution without padding takes ``KERNEL - 1``, pooling floors."""
    for _ in FILTERS:
        size = (size - KERNEL + 1) // POOL
    return size


def _require_size(axis: str, size: int) -> None:
    smallest = smallest_size()
    if size < smallest:
        raise UsageError(f"The input {axis} is {size} voxels; this network needs at least {smallest}.")
