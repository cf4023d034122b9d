"""A trained network that another one learns from: what it predicts, and how much that counts."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ModelError, UsageError
from ct3d_edge.keras_backend import with_pooled_features
from ct3d_edge.temperature_scaling import LOGIT_CLIP
from ct3d_edge.training.batches import TrainingData
from ct3d_edge.training.unlabelled import UnlabelledScans

SCANS_COMPARED = 32
"""Training scans of which at least one must get another prediction than the others."""

SMALLEST_LOGIT_RANGE = 1e-3
"""Between the predictions of different scans; a network in float32 that reads its input differs by far more."""


@dataclass(frozen=True)
class DistillationSettings:
    """What the teacher adds to the loss on the labels.

    Parameters
    ----------
    temperature
        What the logits of both are divided by before they are compared.
    logits_weight
        Of the cross-entropy between both probabilities at that temperature, times its square: so its gradients
        stay as large as those of the labels, whatever the temperature.
    features_weight
        Of the mean squared difference of pooled features: those of the student after a linear projection, those of
        the teacher after a layer normalisation without weights. Unused where one of the two does not pool globally.

    Raises
    ------
    UsageError
        If a value is out of its range.
    """

    temperature: float = 2.0
    logits_weight: float = 1.0
    features_weight: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.temperature <= 100:
            raise UsageError(f"The distillation temperature must be above 0 and at most 100, found {self.temperature}.")
        for name in ("logits_weight", "features_weight"):
            if not 0 <= getattr(self, name) <= 1000:
                raise UsageError(f"The {name.replace('_', ' ')} must be 0 to 1000, found {getattr(self, name)}.")


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network for two classes.

    Parameters
    ----------
    network
        From one volume to one vector, as its contract describes; it is not changed.
    contract
        Of this network.
    sha256
        Of its file.
    settings
        What it adds to a student's loss.
    student_size
        Input ``(W, H, D)`` of the student in voxels; that of the teacher if None.
    unlabelled
        More scans to train on, to which this network gives labels.
    """

    network: keras.Model
    contract: Contract
    sha256: str
    settings: DistillationSettings = DistillationSettings()
    student_size: tuple[int, int, int] | None = None
    unlabelled: UnlabelledScans | None = None

    @property
    def student_contract(self) -> Contract:
        """The contract of a network with one sigmoid that is trained in its place."""
        own = self.contract
        return Contract(
            shape=self.student_size or own.shape,
            hu_window=own.hu_window,
            orientation=own.orientation,
            quarter_turns=own.quarter_turns,
            interpolation=own.interpolation,
            labels=own.labels,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint of the student is compared by."""
        more = None if self.unlabelled is None else self.unlabelled.sha256
        return {"teacher_sha256": self.sha256, "distillation": {**asdict(self.settings), "unlabelled_sha256": more}}

    def predict_logits(self, volumes: tf.Tensor) -> tuple[tf.Tensor | None, tf.Tensor]:
        """Pooled features ``(N, C)``, or None, and the logits ``(N, 1)`` of the second class, in inference mode.

        Parameters
        ----------
        volumes
            ``(N, W, H, D, 1)`` float32.
        """
        extractor = with_pooled_features(self.network)
        inputs = tf.reshape(volumes, (-1, *self.contract.input_shape))
        if extractor is None:
            return None, self._to_logits(self.network(inputs, training=False))
        features, output = extractor(inputs, training=False)
        return features, self._to_logits(output)

    def predict_labels(self, volumes: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """``(N,)`` class indices of volumes ``(W, H, D)``."""
        return np.array([self.predict_logit(volume) >= 0 for volume in volumes], np.float32)

    def predict_logit(self, volume: NDArray[np.float32]) -> float:
        """The logit of one volume ``(W, H, D)``."""
        return float(self.predict_logits(tf.constant(volume[None, ..., None]))[1][0, 0])

    def _to_logits(self, output: tf.Tensor) -> tf.Tensor:
        output = tf.cast(output, tf.float32)
        if self.contract.activation == "identity":
            return logits_of(output[:, -1:])
        return output if self.contract.outputs == 1 else output[:, 1:] - output[:, :1]


def require_distinct_predictions(teacher: Teacher, data: TrainingData) -> None:
    """Make sure that there is something to learn from a teacher, on training scans of both classes.

    Raises
    ------
    ModelError
        If it predicts the same for all of them, or something that is no number.
    """
    rows = data.training.rows
    chosen = np.unique(np.linspace(rows.start, rows.stop - 1, SCANS_COMPARED).round().astype(int))
    source = data.arrays.volumes if data.teacher_volumes is None else data.teacher_volumes
    logits = np.array([teacher.predict_logit(source[row]) for row in chosen])
    if not np.isfinite(logits).all():
        raise ModelError("The teacher predicts NaN or infinity for scans of the training subset.")
    if len(chosen) > 1 and np.ptp(logits) < SMALLEST_LOGIT_RANGE:
        probability = 1 / (1 + np.exp(-logits.mean()))
        raise ModelError(
            f"The teacher predicts {teacher.contract.labels[1]} with probability {probability:.3f} for all of "
            f"{len(chosen)} training scans: a student cannot learn from it. Evaluate it first: ct3d-edge evaluate."
        )


def logits_of(probabilities: tf.Tensor) -> tf.Tensor:
    """``log(p / (1 - p))``, bounded by ``LOGIT_CLIP`` as in `ct3d_edge.temperature_scaling`."""
    clipped = tf.clip_by_value(tf.cast(probabilities, tf.float32), LOGIT_CLIP, 1 - LOGIT_CLIP)
    return tf.math.log(clipped) - tf.math.log1p(-clipped)
