"""What a teacher adds to the loss, against plain NumPy, and what a student learns from it."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import tiny_network
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.training.distillation import DistilledModel, normalize_features, soft_cross_entropy
from ct3d_edge.training.teacher import DistillationSettings, Teacher

from .distributed_run import SIZE, network


def make_teacher(settings: DistillationSettings | None = None, **changes: Any) -> Teacher:
    contract = Contract(shape=SIZE, **changes)
    activation = {"identity": "sigmoid", "sigmoid": None}.get(contract.activation)
    made = tiny_network(contract.input_shape, contract.outputs, activation)
    return Teacher(made, contract, "0" * 64, settings or DistillationSettings())


def volumes(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).random((count, *SIZE, 1), np.float32)


def kl_divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def test_soft_cross_entropy_is_the_kl_divergence_of_softened_probabilities() -> None:
    draw = np.random.default_rng(1)
    expected, found = draw.normal(0, 3, (2, 50, 1))
    p, q = (1 / (1 + np.exp(-logits / 4)) for logits in (expected, found))
    loss = float(soft_cross_entropy(tf.constant(expected), tf.constant(found), 4.0))
    assert loss == pytest.approx(16 * kl_divergence(p, q).mean())
    assert float(soft_cross_entropy(tf.constant(expected), tf.constant(expected), 4.0)) == pytest.approx(0)


def test_features_are_normalized_scan_by_scan() -> None:
    rows = np.asarray(normalize_features(tf.constant(np.random.default_rng(2).normal(5, 3, (4, 64)))))
    np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(rows.std(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"channels": "first"}, {"activation": "sigmoid"}, {"activation": "softmax", "outputs": 2}],
    ids=["probability", "channels first", "logit", "two logits"],
)
def test_logits_of_each_kind_of_teacher(changes: dict[str, Any]) -> None:
    teacher = make_teacher(**changes)
    features, logits = teacher.predict_logits(tf.constant(volumes(3)))
    output = np.asarray(teacher.network(volumes(3).reshape(-1, *teacher.contract.input_shape), training=False))
    if not changes or "channels" in changes:
        output = np.log(output / (1 - output))
    expected = output if output.shape[1] == 1 else output[:, 1:] - output[:, :1]
    np.testing.assert_allclose(np.asarray(logits), expected, rtol=1e-4)
    assert features is not None
    assert features.shape == (3, 4)


def test_two_probabilities_become_one_logit() -> None:
    made = tiny_network((*SIZE, 1), 2, "softmax")
    teacher = Teacher(made, Contract(shape=SIZE, outputs=2), "0" * 64)
    p = np.asarray(made(volumes(3), training=False))
    np.testing.assert_allclose(
        np.asarray(teacher.predict_logits(tf.constant(volumes(3)))[1])[:, 0], np.log(p[:, 1] / p[:, 0]), rtol=1e-4
    )


def test_the_loss_of_a_step_is_that_of_labels_and_teacher() -> None:
    teacher = make_teacher(DistillationSettings(temperature=3.0, logits_weight=0.7, features_weight=0.4))
    student = network(*SIZE)
    model = DistilledModel(student, teacher)
    model.compile(keras.optimizers.SGD(0.0), loss="binary_crossentropy")
    x, y = volumes(4), np.array([[0], [1], [1], [0]], np.float32)
    loss = model.train_on_batch(x, y, class_weight={0: 2.0, 1: 0.5})
    model.compile(keras.optimizers.SGD(0.0), loss="binary_crossentropy")
    assert model.test_on_batch(x, y) == pytest.approx(_log_loss(student, x, y), rel=1e-5)

    pooled = keras.Model(student.inputs[0], [student.layers[-2].output, student.output])
    features, p = pooled(x, training=True)
    weights = np.where(y, 0.5, 2.0)
    labels = float((weights * keras.ops.convert_to_numpy(_cross_entropy(y, p))).mean())
    expected_features, expected = teacher.predict_logits(tf.constant(x))
    p64 = np.asarray(p, np.float64)
    soft = 9 * kl_divergence(
        1 / (1 + np.exp(-np.asarray(expected, np.float64) / 3)), 1 / (1 + np.exp(-np.log(p64 / (1 - p64)) / 3))
    )
    kernel, bias = model.get_layer("projection").get_weights()
    rows = np.asarray(expected_features)
    rows = (rows - rows.mean(axis=1, keepdims=True)) / rows.std(axis=1, keepdims=True)
    apart = np.square(np.asarray(features) @ kernel + bias - rows).mean()
    assert loss == pytest.approx(labels + 0.7 * soft.mean() + 0.4 * apart, rel=1e-3)


def _cross_entropy(y: NDArray[np.float32], p: Any) -> NDArray[np.float64]:
    values = np.asarray(p, np.float64)
    return np.asarray(-(y * np.log(values) + (1 - y) * np.log(1 - values)))


def _log_loss(student: keras.Model, x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
    return float(_cross_entropy(y, student(x, training=False)).mean())


def test_only_student_and_projection_have_weights_here() -> None:
    teacher, student = make_teacher(), network(*SIZE)
    before = [weight.copy() for weight in teacher.network.get_weights()]
    model = DistilledModel(student, teacher)
    assert len(model.get_weights()) == len(student.get_weights()) + 2
    model.compile(keras.optimizers.SGD(0.1), loss="binary_crossentropy")
    own = [weight.copy() for weight in student.get_weights()]
    model.train_on_batch(volumes(4), np.array([[0], [1], [1], [0]], np.float32))
    assert not np.array_equal(own[0], student.get_weights()[0])
    for now, then in zip(teacher.network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_without_global_pooling_the_logits_remain() -> None:
    layers = [keras.Input((*SIZE, 1)), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
    model = DistilledModel(keras.Sequential(layers), make_teacher())
    model.compile(keras.optimizers.SGD(0.1), loss="binary_crossentropy")
    assert len(model.get_weights()) == 2
    assert np.isfinite(model.train_on_batch(volumes(2), np.array([[0], [1]], np.float32)))


def test_a_student_moves_towards_its_teacher_even_against_the_labels() -> None:
    teacher = make_teacher(DistillationSettings(logits_weight=100.0))
    expected = np.asarray(teacher.predict_logits(tf.constant(volumes(16)))[1])
    threshold = np.median(expected)
    opposite = (expected < threshold).astype(np.float32)
    model = DistilledModel(network(*SIZE), teacher)
    model.compile(keras.optimizers.Adam(0.01), loss="binary_crossentropy")

    def distance() -> float:
        p = np.asarray(model(volumes(16), training=False))
        return float(np.abs(np.log(p / (1 - p)) - expected).mean())

    before = distance()
    for _ in range(200):
        model.train_on_batch(volumes(16), opposite)
    assert distance() < before / 3


@pytest.mark.parametrize(
    ("values", "message"),
    [({"temperature": 0.0}, "temperature must be above 0"), ({"logits_weight": -1.0}, "logits weight must be 0")],
)
def test_settings_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DistillationSettings(**values)
