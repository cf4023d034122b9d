"""A network of the zoo, its inputs and its logits in float64, written for the processes that export and measure it.

python -m bench.zoo.reference NAME SIZE FOLDER
"""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.keras_backend import import_keras
from ct3d_edge.modelfile.golden_input import make_phantom_volume

if TYPE_CHECKING:
    import keras

SEEDS = (1, 2)
"""Of the volumes on which files are compared."""


def write_reference(name: str, size: Any, folder: Path) -> None:
    """Write ``network.keras``, ``inputs.npy`` and ``logits.npy`` (float64)."""
    import_keras()
    import keras

    from bench.zoo.catalogue import build_network

    network = build_network(name, size)
    shape = network.inputs[0].shape[1:]
    inputs = np.stack([make_phantom_volume(seed, shape[:3]).reshape(shape) for seed in SEEDS])
    network.save(folder / "network.keras")
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    wide = build_network(name, size)
    wide.set_weights(network.get_weights())
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "logits.npy", _logits(wide, inputs))


def _logits(network: "keras.Model", inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    from keras import layers

    for layer in network._flatten_layers(include_self=False):
        if isinstance(layer, layers.MaxPooling3D | layers.AveragePooling3D):
            layer.call = partial(_pool, layer)
    wide = inputs.astype(np.float64)
    probabilities = np.concatenate([np.asarray(network(wide[n : n + 1], training=False)) for n in range(len(wide))])
    return np.asarray(np.log(probabilities / (1 - probabilities)))


def _pool(layer: Any, x: Any) -> Any:
    """Pooling from shifted slices: TensorFlow's 3D pooling has no float64."""
    import tensorflow as tf
    from keras import layers

    is_maximum = isinstance(layer, layers.MaxPooling3D)
    kernel, strides, sides = layer.pool_size, layer.strides, x.shape[1:4]
    same = layer.padding == "same"
    outputs = [-(-n // s) if same else (n - k) // s + 1 for n, k, s in zip(sides, kernel, strides, strict=True)]
    missing = [max(0, (o - 1) * s + k - n) for n, k, s, o in zip(sides, kernel, strides, outputs, strict=True)]
    if not is_maximum and any(missing):
        raise NotImplementedError("an average over padding")
    pads = [(0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)]
    x = tf.pad(x, pads, constant_values=-np.inf)
    windows = []
    for shift in np.ndindex(*kernel):
        cut = tuple(slice(i, i + (o - 1) * s + 1, s) for i, o, s in zip(shift, outputs, strides, strict=True))
        windows.append(x[(slice(None), *cut)])
    return tf.reduce_max(windows, 0) if is_maximum else tf.reduce_mean(windows, 0)


if __name__ == "__main__":
    write_reference(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
