"""The network as the tutorial runs it: Keras on TensorFlow, ``model.predict``, or the model as a ``tf.function``."""

from typing import Any

from bench.fixture import Fixture
from bench.peers import Network

NEEDS = ("tensorflow", "keras")
PACKAGES = ("tensorflow", "keras")


def network(fixture: Fixture, threads: int, *, function: bool = False) -> Network:
    """``predict`` with its own batches and callbacks; with ``function`` the traced graph alone."""
    import numpy as np

    model = _model(fixture, threads)
    if not function:
        return lambda volumes: np.asarray(model.predict(volumes[..., np.newaxis], verbose=0))
    import tensorflow as tf

    graph = tf.function(lambda batch: model(batch, training=False))
    return lambda volumes: np.asarray(graph(tf.constant(volumes[..., np.newaxis])))


def _model(fixture: Fixture, threads: int) -> Any:
    # Before TensorFlow looks for devices: afterwards the number of threads is fixed.
    import tensorflow as tf

    from ct3d_edge.keras_backend import import_keras

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import_keras()
    import keras

    return keras.saving.load_model(fixture.keras, compile=False)
