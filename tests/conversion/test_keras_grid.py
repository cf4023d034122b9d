"""Networks of many forms, from Keras through tf2onnx: each level answers as the plain conversion does."""

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import difference

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx
from ct3d_edge.conversion.passes.pipeline import Level, Target, optimize_graph

CLOSE = 1e-5
"""Relative to the largest output."""

LEVELS: tuple[tuple[Level, Target, int | None], ...] = (
    ("exact", "cpu", None),
    ("fast", "cpu", None),
    ("fast", "no-conv3d", None),
    ("small", "cpu", 20_000),
)

Block = dict[str, Any]


def with_random_statistics(network: Any) -> Any:
    """Weights and normalisation statistics that change something; gammas of both signs, sums of the order of one.

    Sums of hundreds would saturate the last activation, whose answers could then not be compared.
    """
    import keras

    draw = np.random.default_rng(4)
    for layer in network.layers:
        weights = [draw.normal(0, _spread(w.shape), w.shape) for w in layer.get_weights()]
        if isinstance(layer, keras.layers.BatchNormalization):
            weights[3] = weights[3] ** 2 + 0.3
        layer.set_weights(weights)
    return network


def _spread(shape: tuple[int, ...]) -> float:
    return float(1 / np.sqrt(np.prod(shape[:-1]))) if len(shape) > 1 else 0.5


def network(
    size: tuple[int, int, int] = (17, 16, 15),
    *,
    filters: int = 8,
    normalised: str = "behind pooling",
    pooling: str = "max",
    glob: str = "average",
    head: str = "sigmoid",
    residual: bool = False,
    sequential: bool = False,
    groups: int = 1,
    **window: Any,
) -> Any:
    """Two blocks of convolution, activation, normalisation and pooling; the second one takes the variants."""
    import keras
    from keras import layers

    pool = {"max": layers.MaxPooling3D, "average": layers.AveragePooling3D, "none": lambda _: layers.Identity()}
    globals_ = {
        "average": layers.GlobalAveragePooling3D,
        "max": layers.GlobalMaxPooling3D,
        "flat": layers.Flatten,
    }
    kernel = window.pop("kernel", 3)
    stack: list[Any] = [layers.Conv3D(filters, 3, activation="relu"), pool[pooling](2)]
    if normalised == "behind pooling":
        stack.append(layers.BatchNormalization())
    second: list[Any] = [layers.Conv3D(filters, kernel, groups=groups, **window)]
    second += [layers.BatchNormalization()] if normalised == "before activation" else []
    second += [layers.ReLU()]
    second += [layers.BatchNormalization()] if normalised != "nowhere" else []
    outputs, activation = (1, "sigmoid") if head == "sigmoid" else (3, "softmax")
    last = [globals_[glob](), layers.Dense(5, activation="relu"), layers.Dense(outputs, activation=activation)]
    if sequential:
        return with_random_statistics(keras.Sequential([keras.Input((*size, 1)), *stack, *second, *last]))
    volume = keras.Input((*size, 1))
    x = _through(stack, volume)
    y = _through(second, x)
    y = layers.Add()([x, y]) if residual else y
    return with_random_statistics(keras.Model(volume, _through(last, y)))


def _through(stack: list[Callable[[Any], Any]], x: Any) -> Any:
    for layer in stack:
        x = layer(x)
    return x


def plain(keras_network: Any, size: tuple[int, int, int] = (17, 16, 15)) -> onnx.ModelProto:
    outputs = int(keras_network.outputs[0].shape[-1])
    labels = ("a", "b") if outputs == 1 else ("a", "b", "c")
    return convert_to_onnx(keras_network, Contract(shape=size, outputs=outputs, labels=labels))


def require_equal(before: onnx.ModelProto, size: tuple[int, int, int] = (17, 16, 15)) -> None:
    for (level, target, budget), batch in zip(LEVELS, (1, 3, 3, 3), strict=True):
        after = optimize_graph(before, level, target, budget, strict=True).proto
        onnx.checker.check_model(after, full_check=True)
        assert difference(before, after, (*size, 1), batch) < CLOSE, (level, target)


QUICK: list[Block] = [
    {},
    {"padding": "same", "normalised": "before activation", "residual": True},
    {"kernel": (3, 3, 1), "pooling": "average", "glob": "max", "head": "softmax", "sequential": True},
    {"strides": 2, "kernel": 5, "padding": "same", "normalised": "nowhere"},
    {"dilation_rate": 2, "groups": 2, "glob": "flat", "pooling": "none"},
]

WINDOWS: list[Block] = [
    {"padding": padding, "kernel": kernel, **window}
    for padding, kernel, window in product(
        ("valid", "same"), (1, 3, 5, (3, 3, 1)), ({}, {"strides": 2}, {"dilation_rate": 2}, {"groups": 4})
    )
    if not (padding == "valid" and kernel == 5 and window)
]

FORMS: list[Block] = [
    {"normalised": normalised, "pooling": pooling, "glob": glob, "head": head, "sequential": sequential}
    for (normalised, pooling), (glob, head, sequential) in product(
        product(("behind pooling", "before activation", "nowhere"), ("max", "average")),
        (("average", "softmax", True), ("max", "sigmoid", False), ("flat", "sigmoid", True)),
    )
]

SIZES = [(16, 12, 8), (12, 13, 14), (9, 17, 10)]


@pytest.mark.parametrize("variant", QUICK, ids=str)
def test_networks_of_many_forms(variant: Block) -> None:
    require_equal(plain(network(**variant)))


@pytest.mark.slow
@pytest.mark.parametrize("variant", WINDOWS, ids=str)
def test_windows_of_every_kind(variant: Block) -> None:
    require_equal(plain(network(**variant)))


@pytest.mark.slow
@pytest.mark.parametrize("variant", FORMS, ids=str)
def test_orders_of_layers_and_heads(variant: Block) -> None:
    require_equal(plain(network(**variant)))


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_odd_and_even_sizes(size: tuple[int, int, int], padding: str) -> None:
    require_equal(plain(network(size, padding=padding, residual=padding == "same"), size), size)


@pytest.mark.slow
def test_the_tutorials_network_on_its_smallest_input() -> None:
    from ct3d_edge.training.network import TUTORIAL

    size = (TUTORIAL.smallest_size(), TUTORIAL.smallest_size() + 2, TUTORIAL.smallest_size() + 1)
    require_equal(plain(with_random_statistics(TUTORIAL.build(*size)), size), size)
