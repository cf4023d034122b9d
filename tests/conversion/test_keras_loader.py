from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import SaveNetwork, tiny_network

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.export import export_model
from ct3d_edge.conversion.keras_loader import load_keras_source
from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.errors import ContractError, ModelError, UsageError
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner


def test_a_bare_file_gets_the_default_contract_with_its_own_size_and_says_so(
    save_network: SaveNetwork,
) -> None:
    source = load_keras_source(save_network())
    assert source.contract == Contract(shape=(16, 12, 8))
    (message,) = source.messages
    assert "default" in message
    assert "16x12x8" in message
    assert "normal, abnormal" in message


def test_named_labels_and_orientation_are_taken(save_network: SaveNetwork) -> None:
    source = load_keras_source(save_network(), labels=["healthy", "ill"], orientation="stored")
    assert source.contract.labels == ("healthy", "ill")
    assert source.contract.orientation == "stored"
    assert "labels=" not in source.messages[0]


@pytest.mark.parametrize("named", ["folder", "file"])
def test_a_run_keeps_its_contract(save_network: SaveNetwork, named: str) -> None:
    path = save_network(name="model.keras")
    contract = Contract(shape=(16, 12, 8), orientation="RAS", labels=("a", "b"))
    path.with_name("contract.json").write_text(contract.to_json())
    source = load_keras_source(path.parent if named == "folder" else path)
    assert source.contract == contract
    assert list(source.messages) == [f"The contract is {path.with_name('contract.json')}."]


def test_another_models_contract_is_not_taken(save_network: SaveNetwork) -> None:
    path = save_network(name="other.keras")
    path.with_name("contract.json").write_text(Contract(shape=(16, 12, 8), hu_window=(-160, 240)).to_json())
    source = load_keras_source(path)
    assert source.contract.hu_window == (-1000.0, 400.0)
    assert "came without a contract" in source.messages[0]


def test_a_contract_that_is_no_text_is_refused(save_network: SaveNetwork) -> None:
    path = save_network(name="model.keras")
    path.with_name("contract.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ContractError, match="cannot be read"):
        load_keras_source(path)


def test_a_contract_of_another_network_is_refused(save_network: SaveNetwork) -> None:
    path = save_network(name="model.keras")
    path.with_name("contract.json").write_text(Contract(shape=(16, 12, 9)).to_json())
    with pytest.raises(ContractError, match=r"shape = \(16, 12, 9\).*network beside it has \(16, 12, 8\)"):
        load_keras_source(path.parent)


@pytest.mark.parametrize(
    ("shape", "channels"), [((16, 12, 8, 1), "last"), ((1, 16, 12, 8), "first"), ((16, 12, 8), "none")]
)
def test_the_channel_axis_is_found(save_network: SaveNetwork, shape: tuple[int, ...], channels: str) -> None:
    source = load_keras_source(save_network(tiny_network(shape)))
    assert (source.contract.shape, source.contract.channels) == ((16, 12, 8), channels)


@pytest.mark.parametrize(
    ("outputs", "activation", "expected"),
    [
        (1, "sigmoid", "identity"),
        (1, None, "sigmoid"),
        (2, "softmax", "identity"),
        (3, "softmax", "identity"),
        (3, None, "softmax"),
    ],
)
def test_the_missing_activation_is_found(
    save_network: SaveNetwork, outputs: int, activation: str | None, expected: str
) -> None:
    contract = load_keras_source(save_network(tiny_network(outputs=outputs, activation=activation))).contract
    assert (contract.outputs, contract.activation) == (outputs, expected)
    assert len(contract.labels) == max(2, outputs)


def test_an_open_size_must_be_named(save_network: SaveNetwork) -> None:
    path = save_network(tiny_network((None, None, None, 1)))
    with pytest.raises(UsageError, match=r"leaves its input size open.*`shape="):
        load_keras_source(path)
    assert load_keras_source(path, size=(16, 12, 8)).contract.shape == (16, 12, 8)


def test_a_size_that_the_network_does_not_take_is_refused(save_network: SaveNetwork) -> None:
    with pytest.raises(UsageError, match="Leave out `shape=`"):
        load_keras_source(save_network(), size=(32, 32, 32))


def ending_in_an_operation() -> Any:
    import keras

    base = tiny_network(activation=None)
    return keras.Model(base.input, keras.ops.sigmoid(base.output))


def nested() -> Any:
    import keras

    volume = keras.Input((16, 12, 8, 1))
    return keras.Model(volume, tiny_network(activation="sigmoid")(volume))


def with_a_layer_behind(layer: str, **arguments: Any) -> Any:
    import keras

    base = tiny_network(outputs=2, activation="softmax")
    return keras.Model(base.input, getattr(keras.layers, layer)(**arguments)(base.output))


@pytest.mark.parametrize(
    "network",
    [
        ending_in_an_operation,
        nested,
        lambda: with_a_layer_behind("Dropout", rate=0.5),
        lambda: with_a_layer_behind("Flatten"),
        lambda: with_a_layer_behind("Activation", activation="linear"),
    ],
)
def test_exported_probabilities_are_the_networks_own(
    save_network: SaveNetwork, tmp_path: Path, volumes: list[np.ndarray], network: Any
) -> None:
    """Against Keras's raw output: the proof alone cannot see an activation that is applied twice on both sides."""
    source = load_keras_source(save_network(network()))
    exported = export_model(source, tmp_path / "out.onnx", ParityDataset(volumes, "noise"))
    batch = np.stack(volumes)[..., None]
    raw = np.asarray(source.network(batch, training=False))
    with Runner(exported.model, SessionRequest("cpu")) as runner:
        found = runner.infer(np.stack(volumes))
    assert found[:, -1] == pytest.approx(raw[:, -1], abs=1e-5)


def scaled() -> Any:
    import keras

    base = tiny_network(activation=None)
    return keras.Model(base.input, keras.layers.Rescaling(3.0)(base.output))


def test_an_unknown_last_layer_needs_a_word(save_network: SaveNetwork) -> None:
    path = save_network(scaled())
    with pytest.raises(ModelError, match=r"ends in 'rescaling'.*`activation="):
        load_keras_source(path)
    assert load_keras_source(path, activation="sigmoid").contract.activation == "sigmoid"
    with pytest.raises(ModelError, match="which are no probabilities"):
        load_keras_source(path, activation="identity")


def test_wrong_number_of_labels_is_refused(save_network: SaveNetwork) -> None:
    with pytest.raises(UsageError, match="3 labels do not fit a network with 1 output"):
        load_keras_source(save_network(), labels=["a", "b", "c"])


@pytest.mark.parametrize("content", [b"", b"not a zip file", b"PK\x03\x04"])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.keras"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="Keras cannot load"):
        load_keras_source(path)


def test_code_inside_a_model_is_not_run(save_network: SaveNetwork) -> None:
    import keras

    volume = keras.Input((16, 12, 8, 1))
    pooled = keras.layers.GlobalAveragePooling3D()(keras.layers.Lambda(lambda x: x * 2)(volume))
    path = save_network(keras.Model(volume, keras.layers.Dense(1, activation="sigmoid")(pooled)))
    with pytest.raises(ModelError, match="Keras cannot load"):
        load_keras_source(path)


def test_other_formats_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    path.write_bytes(b"x")
    with pytest.raises(UsageError, match=r"not a \.keras file.*model\.save"):
        load_keras_source(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no Keras model"):
        load_keras_source(tmp_path)


@pytest.mark.parametrize("kind", ["layer", "relu with a slope", "activation", "nested", "none"])
def test_layers_with_a_slope_are_found_wherever_they_are(kind: str) -> None:
    import keras

    from ct3d_edge.conversion.keras_loader import _has_leaky_relu

    volume = keras.Input((4, 4, 4, 1))
    x = keras.layers.Conv3D(2, 3, activation="leaky_relu" if kind == "activation" else "relu")(volume)
    if kind == "layer":
        x = keras.layers.LeakyReLU(0.3)(x)
    if kind in ("relu with a slope", "nested"):
        x = keras.layers.ReLU(negative_slope=0.3)(x)
    network = keras.Model(volume, x)
    if kind == "nested":
        outer = keras.Input((4, 4, 4, 1))
        network = keras.Model(outer, network(outer))
    assert _has_leaky_relu(network) == (kind != "none")


def computing_in(policy: str) -> Any:
    """Layers of many kinds, one of them with a state that is not a weight."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    keras.config.set_dtype_policy(policy)
    try:
        volume = keras.Input((16, 12, 8, 1), dtype="float32")
        normalised = layers.Normalization()
        normalised.adapt(np.random.default_rng(0).normal(0.3, 0.2, (2, 16, 12, 8, 1)))
        x = keras.ops.cast(normalised(volume), "float16")
        x = layers.BatchNormalization()(layers.Conv3D(4, 3, activation="relu")(x))
        x = layers.Dense(1)(layers.GlobalAveragePooling3D()(layers.MaxPooling3D(2)(x)))
        network = keras.Model(volume, layers.Activation("sigmoid", dtype="float32")(x))
        draw = np.random.default_rng(3)
        for weight in network.trainable_weights:  # initializers draw other numbers in float16
            weight.assign(draw.normal(0, 0.3, weight.shape))
        return network
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_networks_in_half_precision_are_computed_in_float32(
    save_network: SaveNetwork, tmp_path: Path, volumes: list[np.ndarray], policy: str
) -> None:
    source = load_keras_source(save_network(computing_in(policy)))
    assert f"{policy}; exported, they compute in float32." in source.messages[1]
    assert {layer.compute_dtype for layer in source.network.layers} == {"float32"}
    exported = export_model(source, tmp_path / "out.onnx", ParityDataset(volumes, "noise"))
    expected = load_keras_source(save_network(computing_in("float32"), "float32.keras"))
    precise = 1e-5 if policy.startswith("mixed") else 1e-2  # in which weights were rounded when they were saved
    with Runner(exported.model, SessionRequest("cpu")) as runner:
        found = runner.infer(np.stack(volumes))
    assert found == pytest.approx(np.stack([expected.probabilities(volume) for volume in volumes]), abs=precise)
