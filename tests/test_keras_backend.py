"""Keras in graph mode: a network whose LeakyReLU loses its slope there, and others that do not."""

import os
import subprocess
import sys

import numpy as np
import pytest
from networks import KERAS

from ct3d_edge.errors import ModelError

pytestmark = pytest.mark.skipif(not KERAS, reason="the extra 'train' is not installed")

RESIDUAL = """
from ct3d_edge.keras_backend import import_keras
import_keras()
import keras, numpy as np
keras.utils.set_random_seed(0)
volume = keras.Input((16, 16, 8, 1))
x = keras.layers.Conv3D(8, 3, padding="same", activation="relu")(volume)
y = keras.layers.Conv3D(8, 3, padding="same", bias_initializer="random_normal")(x)
y = keras.layers.LeakyReLU(0.3)(keras.layers.Add()([x, y]))
y = keras.layers.GlobalAveragePooling3D()(y)
network = keras.Model(volume, keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(2))(y))
batch = np.random.default_rng(1).random((2, 16, 16, 8, 1), np.float32)
right = np.asarray(network(batch, training=False))
def apart():
    return float(np.abs(network.predict(batch, verbose=0) - right).max())
"""


def in_a_process(code: str, **environment: str) -> list[str]:
    """What a program prints; the remapper is switched off for a whole process."""
    done = subprocess.run(
        [sys.executable, "-c", RESIDUAL + code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_predict_is_right_once_both_modes_were_compared() -> None:
    code = "from ct3d_edge.keras_backend import require_graph_mode\nprint(require_graph_mode(network))\nprint(apart())"
    said, apart = in_a_process(code)
    assert float(apart) < 1e-5
    (before,) = in_a_process("print(apart())")
    if float(before) < 1e-5:
        pytest.skip("this TensorFlow computes the network rightly in graph mode")
    assert said.startswith("TensorFlow's graph mode gave other outputs")


@pytest.mark.slow
def test_without_onednn_nothing_is_said() -> None:
    code = "from ct3d_edge.keras_backend import require_graph_mode\nprint(require_graph_mode(network))"
    assert in_a_process(code, TF_ENABLE_ONEDNN_OPTS="0") == ["None"]


def test_modes_that_differ_for_another_reason_are_an_error() -> None:
    import keras

    from ct3d_edge.keras_backend import require_graph_mode

    class Undecided(keras.layers.Layer):  # type: ignore[misc]
        def call(self, inputs: object) -> object:
            import tensorflow as tf

            return inputs if tf.executing_eagerly() else inputs + 1  # type: ignore[operator]

    volume = keras.Input((4, 4, None, 1))
    pooled = keras.layers.GlobalAveragePooling3D()(volume)
    assert require_graph_mode(keras.Model(volume, keras.layers.Dense(1)(pooled))) is None
    with pytest.raises(ModelError, match="differ by 1"):
        require_graph_mode(keras.Model(volume, Undecided()(pooled)))


def test_a_network_that_gives_nan_is_left_to_others() -> None:
    import keras

    from ct3d_edge.keras_backend import require_graph_mode

    volume = keras.Input((4, 4, 4, 1))
    network = keras.Model(volume, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling3D()(volume)))
    network.set_weights([np.full((1, 1), np.nan), np.zeros(1)])
    assert require_graph_mode(network) is None


@pytest.mark.slow
def test_a_graph_that_loses_a_slope_is_not_used() -> None:
    code = (
        "from ct3d_edge.keras_backend import graph_if_equal\n"
        "forward = graph_if_equal(network, batch.shape)\n"
        "print(float(np.abs(np.asarray(forward(batch)) - right).max()), apart())"
    )
    found, apart = in_a_process(code)[0].split()
    assert float(found) < 1e-5
    if float(apart) < 1e-5:
        pytest.skip("this TensorFlow computes the network rightly in graph mode")


def test_networks_are_called_as_a_graph_where_that_is_the_same() -> None:
    code = (
        "from ct3d_edge.keras_backend import graph_if_equal\n"
        "network = keras.Model(volume, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling3D()(x)))\n"
        "expected = np.asarray(network(batch[:1], training=False))\n"
        "forward = graph_if_equal(network, batch[:1].shape)\n"
        "network.call = None\n"
        "print(np.abs(forward(batch[:1]) - expected).max() < 1e-6)"
    )
    assert in_a_process(code) == ["True"]
