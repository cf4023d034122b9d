"""Train a network, the student, to predict what another one, the teacher, predicts for the same augmented volumes.

Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531). Why it is not
`keras.distillation.Distiller`: docs/decisions/0016-distillation-loss.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ModelError, UsageError
from ct3d_edge.keras_backend import with_pooled_features
from ct3d_edge.progress import Progress
from ct3d_edge.temperature_scaling import LOGIT_CLIP
from ct3d_edge.training.batches import TrainingData
from ct3d_edge.training.data import ScanArrays, VolumeFiles, VolumeSource, prepare_scans
from ct3d_edge.training.unlabelled import UnlabelledScans, insert_files, insert_labels, prepare_unlabelled

SCANS_COMPARED = 32
"""Training scans of which at least one must get another prediction than the others."""

SMALLEST_LOGIT_RANGE = 1e-3
"""Between the predictions of different scans; a network in float32 that reads its input differs by far more."""

VARIANCE_FLOOR = 1e-6
"""Added to the variance of a scan's pooled features before they are divided by its root."""


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


@contextmanager
def prepare_for_teacher(
    teacher: Teacher | None,
    folder: Path,
    arrays: ScanArrays,
    cache: Path,
    progress: Progress,
    *,
    keep: bool,
    skip_bad: bool,
) -> Iterator[tuple[ScanArrays, VolumeSource | None]]:
    """Add the unlabelled scans of a teacher to those of a run, and prepare all for its input if that has another size.

    Parameters are those of `ct3d_edge.training.data.prepare_scans`.

    Yields
    ------
    ScanArrays
        The scans for the student, the unlabelled ones with the teacher's predictions as labels.
    VolumeSource or None
        The same scans for the teacher; None if they are the same volumes.
    """
    if teacher is None:
        yield arrays, None
        return
    own = teacher.student_contract
    large = replace(own, shape=teacher.contract.shape)
    with ExitStack() as stack:
        prepare = partial(
            _prepare_inputs,
            teacher,
            folder,
            arrays,
            stack,
            cache=cache,
            progress=progress,
            keep=keep,
            skip_bad=skip_bad,
        )
        names, volumes = prepare(own)
        others = None if large == own else prepare(large)[1]
        count = len(arrays.split.train)
        source = volumes if others is None else others
        labels = teacher.predict_labels([source[row] for row in range(count, count + len(names))])
        yield replace(insert_labels(arrays, names, labels), volumes=volumes), others


def _prepare_inputs(
    teacher: Teacher,
    folder: Path,
    arrays: ScanArrays,
    stack: ExitStack,
    contract: Contract,
    *,
    cache: Path,
    progress: Progress,
    keep: bool,
    skip_bad: bool,
) -> tuple[tuple[str, ...], VolumeFiles]:
    """The scans of a run under a contract, with the unlabelled ones, whose names come first."""
    if contract == teacher.student_contract:
        volumes = cast(VolumeFiles, arrays.volumes)
    else:
        opened = stack.enter_context(prepare_scans(folder, arrays.split, contract, cache, progress, keep=keep))
        volumes = cast(VolumeFiles, opened.volumes)
    if teacher.unlabelled is None:
        return (), volumes
    files = stack.enter_context(
        prepare_unlabelled(teacher.unlabelled, contract, cache, progress, keep=keep, skip_bad=skip_bad)
    )
    return tuple(files), insert_files(volumes, tuple(files.values()), len(arrays.split.train))


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
