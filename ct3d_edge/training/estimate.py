"""How long a training takes at most, from a few measured steps on its own data."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import keras

from ct3d_edge.training.batches import TrainingData
from ct3d_edge.training.checkpoint import Checkpoint, state_of
from ct3d_edge.training.presets import Preset

MEASURED_STEPS = 3
"""After a first one, which builds the graph. The fastest counts: other load only makes a step slower."""

VALIDATION_SHARE = 1 / 3
"""Of the time of a training step that a batch takes without gradients."""


@dataclass(frozen=True)
class DurationEstimate:
    """The time of a training if no epoch is saved by early stopping.

    Parameters
    ----------
    step_seconds
        Of one measured training step.
    epochs
        That are left.
    seconds
        Of all of them, validation included.
    """

    step_seconds: float
    epochs: int
    seconds: float


OnEstimate = Callable[[DurationEstimate], None]


def estimate_duration(model: keras.Model, data: TrainingData, preset: Preset, done: int = 0) -> DurationEstimate:
    """Measure a few training steps, and put the model back to where it was.

    Parameters
    ----------
    model
        Compiled.
    done
        Epochs that need no more time.
    """
    step = _measure_step(model, data)
    epoch = step * (data.training.steps + VALIDATION_SHARE * data.validation.steps)
    left = preset.epochs - done
    return DurationEstimate(step, left, left * epoch)


def _measure_step(model: keras.Model, data: TrainingData) -> float:
    model.optimizer.build(model.trainable_variables)
    before = Checkpoint({}, (), *state_of(model), ())
    stream = data.batches(data.training, range(1 + MEASURED_STEPS), data.changes).take(1 + MEASURED_STEPS)
    seconds, begin = [], time.perf_counter()
    for volumes, labels in stream:
        model.train_on_batch(volumes, labels, class_weight=data.class_weights)
        seconds.append(time.perf_counter() - begin)
        begin = time.perf_counter()
    before.restore(model)
    model.reset_metrics()
    return min(seconds[1:])
