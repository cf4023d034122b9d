"""Keras networks that are no classifiers of CT volumes: each is refused in one line."""

from typing import Any

import pytest
from networks import SaveNetwork, tiny_network

from ct3d_edge.conversion.keras_loader import load_keras_source
from ct3d_edge.errors import ModelError


def two_inputs() -> Any:
    import keras

    a, b = keras.Input((16, 12, 8, 1)), keras.Input((16, 12, 8, 1))
    pooled = keras.layers.GlobalAveragePooling3D()(keras.layers.Add()([a, b]))
    return keras.Model([a, b], keras.layers.Dense(1, activation="sigmoid")(pooled))


def a_map_as_output() -> Any:
    import keras

    volume = keras.Input((16, 12, 8, 1))
    return keras.Model(volume, keras.layers.Conv3D(1, 1, activation="sigmoid")(volume))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (two_inputs, "2 inputs and 1 outputs"),
        (a_map_as_output, "a vector of classes can be exported"),
        (lambda: tiny_network((16, 12, 8, 1), 3, "sigmoid"), "3 independent sigmoids"),
        (lambda: tiny_network((16, 12, 8, 1), 2, "relu"), "ends in 'relu'"),
    ],
)
def test_other_networks_are_refused(save_network: SaveNetwork, network: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_keras_source(save_network(network()))


def never_built() -> Any:
    import keras

    return keras.Sequential([keras.layers.GlobalAveragePooling3D(), keras.layers.Dense(1, activation="sigmoid")])


def half_precision_input() -> Any:
    import keras

    volume = keras.Input((16, 12, 8, 1), dtype="float64")
    return keras.Model(volume, keras.layers.Dense(1, activation="sigmoid")(keras.layers.Flatten()(volume)))


def flat_picture() -> Any:
    import keras

    picture = keras.Input((32, 32, 3))
    return keras.Model(picture, keras.layers.Dense(1, activation="sigmoid")(keras.layers.Flatten()(picture)))


def two_names() -> Any:
    import keras

    volume = keras.Input((16, 12, 8, 1), name="ct")
    pooled = keras.layers.GlobalAveragePooling3D()(volume)
    return keras.Model({"ct": volume}, {"p": keras.layers.Dense(1, activation="sigmoid")(pooled)})


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (never_built, "never been given an input shape"),
        (half_precision_input, "takes float64"),
        (flat_picture, r"input of shape \(32, 32, 3\)"),
        (lambda: tiny_network(activation="softmax"), "always 1"),
        (two_names, "Keras cannot run"),
    ],
)
def test_what_cannot_be_a_ct_classifier_is_refused_in_one_line(
    save_network: SaveNetwork, network: Any, message: str
) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_keras_source(save_network(network()))
    assert "\n" not in str(caught.value)


def unknown_layer() -> Any:
    import keras

    @keras.saving.register_keras_serializable("elsewhere")
    class Odd(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, x: Any) -> Any:
            return x * 2

    volume = keras.Input((16, 12, 8, 1))
    return keras.Model(volume, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling3D()(Odd()(volume))))


def test_the_error_says_what_keras_stumbled_over(save_network: SaveNetwork) -> None:
    import keras

    path = save_network(unknown_layer())
    keras.saving.get_custom_objects().pop("elsewhere>Odd")
    with pytest.raises(
        ModelError, match=r"Keras cannot load .*odd\.keras: Could not locate class 'Odd'\. Make sure"
    ) as caught:
        load_keras_source(path.rename(path.with_name("odd.keras")))
    assert "config" not in str(caught.value)
    assert "\n" not in str(caught.value)
