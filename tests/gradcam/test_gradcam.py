"""Closed form against automatic differentiation."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from networks import KERAS, tiny_network
from numpy.typing import NDArray
from products import each_value
from records import ANSWERED

from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.conversion.passes.pipeline import Level, Target
from ct3d_edge.gradcam.gradcam import compute_class_activation
from ct3d_edge.gradcam.graph_trace import find_global_pooling

pytestmark = pytest.mark.skipif(not KERAS, reason="needs the extra 'train'")


def published_shrunk() -> Any:
    """The tutorial's network for smaller volumes, with a sixteenth of the filters, normalisations that change a lot."""
    import keras

    keras.utils.set_random_seed(11)
    layers = keras.layers
    volume = keras.Input((64, 80, 62, 1))
    x = volume
    for filters in (4, 4, 8, 16):
        x = layers.Conv3D(filters, 3, activation="relu")(x)
        x = layers.MaxPool3D(2)(x)
        x = layers.BatchNormalization()(x)
    x = layers.GlobalAveragePooling3D()(x)
    x = layers.Dense(32, activation="relu")(x)
    x = layers.Dropout(0.3)(x)
    network = keras.Model(volume, layers.Dense(1, activation="sigmoid")(x))
    draw = np.random.default_rng(2)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            shape = layer.get_weights()[0].shape
            layer.set_weights(
                [draw.normal(1, 0.5, shape), *draw.normal(0, 0.3, (2, *shape)), draw.uniform(1, 2, shape)]
            )
    return network


def two_dense() -> Any:
    """Three classes behind two dense layers."""
    import keras

    network = tiny_network(outputs=6, activation="relu")
    return keras.Model(network.input, keras.layers.Dense(3, activation="softmax")(network.output))


def by_autodiff(network: Any, volume: NDArray[np.float32], output: int) -> NDArray[np.float32]:
    """Grad-CAM as its paper says, before negative values are cut, by Keras and TensorFlow."""
    import keras
    import tensorflow as tf

    (pooling,) = [layer for layer in network.layers if isinstance(layer, keras.layers.GlobalAveragePooling3D)]
    last = network.layers[-1]
    activation, last.activation = last.activation, keras.activations.linear
    both = keras.Model(network.input, [pooling.input, network.output])
    with tf.GradientTape() as tape:
        features, logits = both(volume[None, ..., None], training=False)
        tape.watch(features)
        # Again from the features on, so that the tape sees them as an input.
        x = features
        for layer in network.layers[network.layers.index(pooling) :]:
            x = layer(x)
        logit = x[:, output]
    assert np.allclose(x, logits, atol=1e-5)
    weights = tf.reduce_mean(tape.gradient(logit, features), axis=(1, 2, 3))
    last.activation = activation
    return np.asarray(tf.einsum("nabck,nk->nabc", features, weights)[0])


NETWORKS = {
    "one dense": (tiny_network, "normal,abnormal"),
    "published": (published_shrunk, "normal,abnormal"),
    "logit": (lambda: tiny_network(activation=None), "normal,abnormal"),
    "softmax": (lambda: tiny_network(outputs=2, activation="softmax"), "normal,abnormal"),
    "three classes": (two_dense, "a,b,c"),
}


OTHERS = [name for name in NETWORKS if name != "published"]
PLANS: list[tuple[Level, Target]] = [("none", "cpu"), ("exact", "cuda"), ("fast", "cpu"), ("small", "cpu")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "plan"), [*product(["published"], PLANS), *each_value(OTHERS, PLANS)])
def test_maps_equal_those_of_automatic_differentiation(name: str, plan: tuple[Level, Target], tmp_path: Path) -> None:
    from ct3d_edge.conversion.export import export_model
    from ct3d_edge.conversion.graph_variant import CompileOptions
    from ct3d_edge.conversion.keras_loader import load_keras_source
    from ct3d_edge.inference.gradcam_maps import GradcamMaker
    from ct3d_edge.inference.predict import ScanResult, classify
    from ct3d_edge.session.provider_selection import SessionRequest
    from ct3d_edge.session.runner import Runner

    make, labels = NETWORKS[name]
    network = make()
    network.save(tmp_path / "network.keras")
    source = load_keras_source(tmp_path / "network.keras", labels=tuple(labels.split(",")))
    rng = np.random.default_rng(5)
    volumes = [rng.random(source.contract.shape, np.float32) * bright for bright in np.linspace(0.1, 1, 8, dtype="f4")]
    options = CompileOptions(*plan, strict=True, gradcam_output=True)
    file = export_model(source, tmp_path / "x.onnx", ParityDataset(volumes, "noise"), options=options).model
    explainer = GradcamMaker(file)
    head = find_global_pooling(onnx.ModelProto.FromString(file.data), file.output_name).head
    with Runner(file, SessionRequest("cpu", gradcam=True)) as runner:
        probabilities, features, _ = runner.outputs(np.stack(volumes))
        assert features is not None
        for volume, row, given in zip(volumes, probabilities, features, strict=True):
            answer = classify(row, file.contract)
            explanation = explainer.compute_map(ScanResult(replace(ANSWERED, prediction=answer), None, given))
            assert explanation is not None
            assert explanation.label == (answer.label if len(file.contract.labels) > 2 else "abnormal")
            output = 0 if file.contract.outputs == 1 else file.contract.labels.index(explanation.label)
            expected = by_autodiff(network, volume, output)
            tolerance = 1e-4 * np.abs(expected).max()
            assert tolerance > 0, "maps that are all zero prove nothing"
            assert np.abs(compute_class_activation(given, head, output) - expected).max() < tolerance
            assert np.abs(explanation.cells - np.maximum(expected, 0)).max() < tolerance
