"""Networks that are written layer by layer, against Keras' own answers."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from graphs import answers, operators
from keras import layers, ops
from networks import SHAPE, SaveNetwork, tiny_network

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.direct.convert import convert_directly
from ct3d_edge.conversion.export import export_model
from ct3d_edge.conversion.keras_loader import load_keras_source
from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx
from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.conversion.passes.pipeline import optimize_graph
from ct3d_edge.errors import ModelError

Features = Callable[[Any], Any]


def classify(features: Features, shape: tuple[int | None, ...] = (*SHAPE, 1)) -> Any:
    """A network on eight channels, whose weights are all different from their first values."""
    keras.utils.set_random_seed(2)
    volume = keras.Input(shape)
    x = features(layers.Conv3D(8, 3, 2, padding="same", name="stem")(volume))
    x = layers.Flatten()(x) if None not in shape else layers.GlobalMaxPooling3D()(x)
    network = keras.Model(volume, layers.Dense(3, activation="softmax")(x))
    draw = np.random.default_rng(0)
    for weight in network.weights:
        if "seed" not in weight.path:
            low = 0.5 if "variance" in weight.path else -0.3
            weight.assign(draw.uniform(low, low + 0.8, weight.shape))
    head = network.layers[-1].kernel
    head.assign(draw.normal(0, head.shape[0] ** -0.5, head.shape))
    return network


def slices(x: Any) -> Any:
    return layers.Permute((3, 1, 2, 4))(x)


def vectors(x: Any) -> Any:
    return layers.Reshape((x.shape[1], -1))(x)


def twice(layer: Any) -> Features:
    return lambda x: layer(layer(x))


def nested(x: Any) -> Any:
    inner = keras.Input(x.shape[1:])
    part = keras.Model(inner, inner + layers.Conv3D(8, 3, padding="same", activation="relu")(inner))
    return layers.Add()([part(x), part(part(x)), keras.Sequential([layers.Conv3D(8, 1)])(x)])


def attention(x: Any) -> Any:
    tokens = layers.Reshape((-1, 8))(x)
    return layers.MultiHeadAttention(2, 3)(tokens, layers.LayerNormalization()(tokens))


def indices(x: Any) -> Any:
    return x[:, 1:, ::2, -1, None] + x[..., :-1, 0, :, :][:, :, None, :1]


def several(x: Any) -> Any:
    first, second, third = ops.split(x, [2, 3], axis=-1)
    return ops.concatenate([third * second, ops.stack([first, ops.flip(first, 1)], -1)[..., 1]], -1)


def means(x: Any) -> Any:
    return ops.mean(x, (1, 2), keepdims=True) * ops.max(x, -1, keepdims=True) + ops.sum(x, [3], keepdims=True)


def arithmetic(x: Any) -> Any:
    positive = ops.square(x) + 0.5
    roots = ops.sqrt(positive) - ops.rsqrt(positive) / ops.log(positive + 1)
    return ops.maximum(ops.clip(roots, -1, 2), ops.minimum(ops.abs(x), 1 - ops.exp(-positive))) ** 3


FEATURES: dict[str, Features] = {
    "Conv3D, groups": layers.Conv3D(16, 3, groups=4, activation="mish"),
    "Conv3D, dilation": layers.Conv3D(4, (3, 2, 1), padding="same", dilation_rate=(2, 1, 3)),
    "Conv3D, stride and odd size": layers.Conv3D(4, (2, 3, 4), 3, padding="same", use_bias=False),
    "Conv3DTranspose": layers.Conv3DTranspose(4, 3, 2, padding="same"),
    "Conv3DTranspose, valid": layers.Conv3DTranspose(4, (2, 3, 1), (3, 1, 2)),
    "Conv3DTranspose, output padding": layers.Conv3DTranspose(4, 3, 2, output_padding=1),
    "MaxPooling3D": layers.MaxPooling3D(3, 2, padding="same"),
    "AveragePooling3D": layers.AveragePooling3D((2, 3, 2), padding="same"),
    "global pooling": lambda x: x * layers.GlobalAveragePooling3D(keepdims=True)(x),
    "BatchNormalization": layers.BatchNormalization(),
    "BatchNormalization, no scale": layers.BatchNormalization(axis=2, scale=False, center=False),
    "LayerNormalization": layers.LayerNormalization(axis=(-2, -1)),
    "GroupNormalization": layers.GroupNormalization(4),
    "Normalization": layers.Normalization(mean=[0.1] * 8, variance=[0.3] * 8),
    "Normalization, inverse": layers.Normalization(mean=[0.1] * 8, variance=[0.3] * 8, invert=True),
    "UpSampling3D": layers.UpSampling3D((2, 1, 3)),
    "ZeroPadding3D, Cropping3D": lambda x: layers.Cropping3D(1)(layers.ZeroPadding3D(((2, 0), (1, 1), (0, 3)))(x)),
    "PReLU": layers.PReLU(shared_axes=[1, 2, 3]),
    "Dropout": lambda x: layers.SpatialDropout3D(0.5)(layers.GaussianNoise(1.0)(layers.Dropout(0.5)(x))),
    "Softmax": layers.Softmax(axis=2),
    "Dense": layers.Dense(5, activation="tanh"),
    "EinsumDense": layers.EinsumDense("abcde,def->abcf", (8, 6, 5), bias_axes="f"),
    "attention": attention,
    "merging": lambda x: layers.Average()([layers.Maximum()([x, x * 2]), layers.Multiply()([x, x]), 1 - x]),
    "a layer used twice": twice(layers.Conv3D(8, 3, padding="same", activation="elu")),
    "nested networks": nested,
    "TimeDistributed": lambda x: layers.TimeDistributed(layers.Conv2D(3, 2, activation="relu"))(slices(x)),
    "LSTM": lambda x: layers.LSTM(5)(vectors(x)),
    "LSTM, sequences": lambda x: layers.LSTM(5, return_sequences=True, go_backwards=True, use_bias=False)(vectors(x)),
    "LSTM, other activations": lambda x: layers.LSTM(5, activation="relu", recurrent_activation="tanh")(vectors(x)),
    "GRU": lambda x: layers.GRU(5)(vectors(x)),
    "GRU, reset before": lambda x: layers.GRU(5, reset_after=False, return_sequences=True)(vectors(x)),
    "SimpleRNN": lambda x: layers.SimpleRNN(5, return_sequences=True)(vectors(x)),
    "Bidirectional": lambda x: layers.Bidirectional(layers.GRU(4, return_sequences=True))(vectors(x)),
    "Bidirectional, mean": lambda x: layers.Bidirectional(layers.LSTM(4), merge_mode="ave")(vectors(x)),
    "ConvLSTM2D": lambda x: layers.ConvLSTM2D(3, 3, padding="same", return_sequences=True)(slices(x)),
    "indices": indices,
    "split, stack, flip": several,
    "roll": lambda x: ops.roll(x, (2, -1), (1, 3)),
    "reductions": means,
    "arithmetic": arithmetic,
    **{name: layers.Activation(name) for name in (
        "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "sigmoid", "hard_sigmoid", "hard_silu",
        "tanh", "softplus", "softsign", "exponential", "log_softmax",
    )},
}  # fmt: skip


@pytest.mark.parametrize("name", FEATURES)
def test_layers_answer_as_in_keras(name: str) -> None:
    network = classify(FEATURES[name])
    proto = convert_directly(network, Contract(shape=SHAPE, outputs=3, labels=("a", "b", "c")))
    onnx.checker.check_model(proto, full_check=True)
    batch = np.random.default_rng(5).normal(size=(3, *SHAPE, 1)).astype(np.float32)
    (found,) = answers(proto, batch)
    assert found == pytest.approx(np.asarray(network(batch, training=False)), abs=2e-6)


def test_transposes_between_layers_are_gone() -> None:
    found, expected = (
        operators(optimize_graph(convert(tiny_network(), Contract(shape=SHAPE)), "exact").proto)
        for convert in (convert_directly, convert_to_onnx)
    )
    assert sorted(found) == sorted(expected)


def test_an_open_size_becomes_that_of_the_contract() -> None:
    network = classify(layers.MaxPooling3D(2), (None, None, None, 1))
    proto = convert_directly(network, Contract(shape=SHAPE, outputs=3, labels=("a", "b", "c")))
    batch = np.random.default_rng(5).normal(size=(2, *SHAPE, 1)).astype(np.float32)
    assert answers(proto, batch)[0] == pytest.approx(np.asarray(network(batch, training=False)), abs=1e-6)


class Recorded(layers.Layer):  # type: ignore[misc]  # Keras has no types
    def build(self, shape: Any) -> None:
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x: Any) -> Any:
        return x * self.scale + ops.relu(x[:, ::-1])


class Opaque(layers.Layer):  # type: ignore[misc]
    def call(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.cumsum(x, axis=1)


def test_a_layer_of_ones_own_is_recorded() -> None:
    network = classify(Recorded())
    proto = convert_directly(network, Contract(shape=SHAPE, outputs=3, labels=("a", "b", "c")))
    batch = np.random.default_rng(5).normal(size=(2, *SHAPE, 1)).astype(np.float32)
    assert answers(proto, batch)[0] == pytest.approx(np.asarray(network(batch, training=False)), abs=1e-6)


@pytest.mark.parametrize(
    ("features", "what"),
    [
        (Opaque(name="sums"), r"Opaque of sums: its operations cannot be recorded"),
        (lambda x: ops.cumsum(x, 1), r"Cumsum of the network: this operation has no writer"),
        (lambda x: ops.relu(keras.Sequential([Opaque(name="sums")], name="part")(x)), r"Opaque of part/sums"),
    ],
)
def test_what_it_does_not_know_is_named(features: Features, what: str) -> None:
    with pytest.raises(ModelError, match=rf"`converter=direct` cannot write {what}.*Use `converter=tf2onnx`"):
        convert_directly(classify(features), Contract(shape=SHAPE, outputs=3, labels=("a", "b", "c")))


def test_the_file_names_its_converter(save_network: SaveNetwork, tmp_path: Path, volumes: list[np.ndarray]) -> None:
    source = load_keras_source(save_network())
    exported = export_model(source, tmp_path / "x.onnx", ParityDataset(volumes, "noise"), converter="direct")
    assert exported.parity.passed
    assert exported.model.provenance["converter"] == "direct"


WITHOUT_TF2ONNX = """
import sys
sys.modules["tf2onnx"] = None
from importlib import util
find = util.find_spec
import ct3d_edge.extras as extras
extras.find_spec = lambda name: None if name == "tf2onnx" else find(name)
from ct3d_edge.cli.app import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("converter", "code"), [("direct", 0), ("tf2onnx", 3)])
def test_it_does_without_tf2onnx(tiny_file: Path, tmp_path: Path, converter: str, code: int) -> None:
    options = ["--model", str(tiny_file), "--out", str(tmp_path / "x.onnx"), "--converter", converter]
    command = [sys.executable, "-c", WITHOUT_TF2ONNX, "export", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "x.onnx").exists() == (code == 0)
