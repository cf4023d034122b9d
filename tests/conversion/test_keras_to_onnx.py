"""What tf2onnx leaves out, against Keras' own answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import answers, operators
from networks import SHAPE, SaveNetwork

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.export import export_model
from ct3d_edge.conversion.keras_loader import load_keras_source
from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx
from ct3d_edge.conversion.parity.parity_data import ParityDataset


def classify(features: Callable[[Any], Any]) -> Any:
    import keras

    keras.utils.set_random_seed(2)
    volume = keras.Input((*SHAPE, 1))
    pooled = keras.layers.GlobalAveragePooling3D()(features(volume))
    return keras.Model(volume, keras.layers.Dense(1, activation="sigmoid")(pooled))


def gelu(x: Any) -> Any:
    import keras

    return keras.layers.Conv3D(4, 3, activation="gelu", bias_initializer="random_normal")(x)


def erfc(x: Any) -> Any:
    import tensorflow as tf
    from keras import layers

    class Complement(layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return tf.math.erfc(x)

    return Complement()(layers.Conv3D(4, 3)(x))


def normalised(**settings: Any) -> Callable[[Any], Any]:
    import keras

    layer = keras.layers.Normalization(**settings)
    if not settings:
        layer.adapt(np.random.default_rng(0).normal(0.3, 0.2, (2, *SHAPE, 1)))
    return lambda x: keras.layers.Conv3D(4, 3, activation="relu")(layer(x))


def captured(x: Any) -> Any:
    import keras
    import tensorflow as tf

    table = tf.constant(np.random.default_rng(0).normal(size=(1, 1, 1, 1, 4)), tf.float32)

    class Scaled(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return x * table + tf.gather(table, [0, 0], axis=0)[1]

    return Scaled()(keras.layers.Conv3D(4, 3)(x))


def normalised_vector(x: Any) -> Any:
    import keras

    x = keras.layers.Conv3D(6, SHAPE, strides=SHAPE)(x)  # one voxel is left
    return keras.layers.Dense(6)(keras.layers.LayerNormalization()(x))


FEATURES: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "gelu": lambda: gelu,
    "erfc": lambda: erfc,
    "layer normalisation of one voxel": lambda: normalised_vector,
    "captured": lambda: captured,
    "normalisation": lambda: normalised(mean=[0.3], variance=[0.2]),
    "its inverse": lambda: normalised(mean=[0.3], variance=[0.2], invert=True),
    "adapted normalisation": normalised,
}


@pytest.mark.parametrize("name", FEATURES)
def test_layers_that_tf2onnx_knows_in_part_answer_as_in_keras(name: str) -> None:
    network = classify(FEATURES[name]())
    proto = convert_to_onnx(network, Contract(shape=SHAPE))
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in proto.graph.input] == ["volume"]
    batch = np.random.default_rng(5).normal(size=(3, *SHAPE, 1)).astype(np.float32)
    (found,) = answers(proto, batch)
    assert found == pytest.approx(np.asarray(network(batch, training=False)), abs=1e-6)


def test_gelu_has_the_form_that_runtimes_fuse() -> None:
    written = operators(convert_to_onnx(classify(gelu), Contract(shape=SHAPE)))
    assert "Neg" not in written
    assert written[written.index("Erf") + 1] == "Add"


@pytest.mark.parametrize("name", ["gelu", "adapted normalisation"])
def test_they_are_exported(save_network: SaveNetwork, tmp_path: Path, volumes: list[np.ndarray], name: str) -> None:
    source = load_keras_source(save_network(classify(FEATURES[name]())))
    assert export_model(source, tmp_path / "out.onnx", ParityDataset(volumes, "noise")).parity.passed
