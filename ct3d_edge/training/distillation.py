"""Train a network, the student, to predict what another one, the teacher, predicts for the same augmented volumes.

Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531). Why it is not
`keras.distillation.Distiller`: docs/decisions/0016-distillation-loss.md.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ct3d_edge.keras_backend import with_pooled_features
from ct3d_edge.training.teacher import Teacher, logits_of

VARIANCE_FLOOR = 1e-6
"""Added to the variance of a scan's pooled features before they are divided by its root."""


class DistilledModel(keras.Model):  # type: ignore[misc]  # Keras publishes no types
    """A network in training, with what its teacher adds to the loss of training steps.

    It has the weights of the network and of the projection of its features; validation and inference are those of
    the network alone.

    Parameters
    ----------
    network
        The student: ``(N, W, H, D, 1)`` to ``(N, 1)`` probabilities.
    teacher
        Predicts the same volumes; not among the layers of this model, so that it is neither trained nor saved.
    """

    def __init__(self, network: keras.Model, teacher: Teacher) -> None:
        # Its policy decides whether the loss is scaled; the teacher gets volumes in full precision.
        super().__init__(name=f"{network.name}-distilled", dtype=network.dtype_policy, autocast=False)
        self._teacher = teacher
        self._student = with_pooled_features(network) or network
        self._projection: keras.layers.Dense | None = None
        pooled = with_pooled_features(teacher.network)
        if len(self._student.outputs) > 1 and pooled is not None and teacher.settings.features_weight:
            self._projection = keras.layers.Dense(pooled.outputs[0].shape[-1], dtype="float32", name="projection")
            self._projection.build(self._student.outputs[0].shape)
        self.build((None, *network.inputs[0].shape[1:]))

    def build(self, _: Any) -> None:
        """All layers have their weights already."""
        self.built = True

    def call(self, inputs: tf.Tensor | Sequence[tf.Tensor], training: bool = False) -> tf.Tensor:
        """Predict probabilities ``(N, 1)``; in training also add the teacher's part of the loss.

        Parameters
        ----------
        inputs
            Volumes; in training perhaps those of the student, then the same scans in the size of the teacher.
        """
        volumes, *others = inputs if isinstance(inputs, list | tuple) else [inputs]
        outputs = self._student(volumes, training=training)
        features, probabilities = outputs if self._student_pools else (None, outputs)
        if training:
            self.add_loss(self._teacher_loss(others[0] if others else volumes, features, probabilities))
        return probabilities

    @property
    def _student_pools(self) -> bool:
        return len(self._student.outputs) > 1

    def _teacher_loss(self, volumes: tf.Tensor, features: tf.Tensor | None, probabilities: tf.Tensor) -> tf.Tensor:
        settings = self._teacher.settings
        expected_features, expected = self._teacher.predict_logits(volumes)
        loss = settings.logits_weight * soft_cross_entropy(expected, logits_of(probabilities), settings.temperature)
        if self._projection is not None:
            difference = self._projection(features) - normalize_features(expected_features)
            loss += settings.features_weight * tf.reduce_mean(tf.square(difference))
        return loss


def soft_cross_entropy(expected: tf.Tensor, found: tf.Tensor, temperature: float) -> tf.Tensor:
    """Mean cross-entropy of ``found`` logits against ``expected`` ones at a temperature, times its square.

    The entropy of the teacher's probabilities is subtracted, so that it is 0 where both are equal.
    """
    target = tf.sigmoid(expected / temperature)
    cross = tf.nn.sigmoid_cross_entropy_with_logits(target, found / temperature)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(target, expected / temperature)
    return temperature**2 * tf.reduce_mean(cross - entropy)


def normalize_features(features: tf.Tensor) -> tf.Tensor:
    """Features ``(N, C)`` with mean 0 and variance 1 in each row.

    Source: Wei et al. 2022, "Contrastive Learning Rivals Masked Image Modeling in Fine-tuning via Feature
    Distillation" (arXiv 2205.14141).
    """
    values = tf.cast(features, tf.float32)
    mean, variance = tf.nn.moments(values, axes=[-1], keepdims=True)
    return (values - mean) / tf.sqrt(variance + VARIANCE_FLOOR)
