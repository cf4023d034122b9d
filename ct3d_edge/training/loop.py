"""Epoch after epoch: train, evaluate, keep the best weights, write checkpoints."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ct3d_edge.errors import DatasetError
from ct3d_edge.training import artifacts
from ct3d_edge.training.batches import TrainingData
from ct3d_edge.training.checkpoint import Arrays, Checkpoint, state_of
from ct3d_edge.training.distributed.step import fit_on_several
from ct3d_edge.training.presets import Preset, best_epoch, is_over
from ct3d_edge.training.progress import EpochDone, EpochRecord, OnProgress, Resumed

Logs = Mapping[str, float]

FIGURES = ("loss", "accuracy", "auc", "val_loss", "val_accuracy", "val_auc")


class FiniteLoss(keras.callbacks.Callback):  # type: ignore[misc]  # Keras publishes no types
    """Stops at the first step after which the loss is NaN or infinite.

    Parameters
    ----------
    training_scans, validation_scans
        Paths of the scans of a batch, by epoch and step, both counted from 0.

    Raises
    ------
    DatasetError
        Naming epoch and step, both counted from 1, and the scans.
    """

    def __init__(
        self,
        training_scans: Callable[[int, int], Sequence[str]],
        validation_scans: Callable[[int, int], Sequence[str]],
    ) -> None:
        super().__init__()
        self._training_scans = training_scans
        self._validation_scans = validation_scans
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:  # noqa: ARG002, D102
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:  # noqa: D102
        # Keras reports the mean since the epoch's start: it is finite until the first value that is not.
        loss = (logs or {})["loss"]
        if not math.isfinite(loss):
            raise _not_finite(loss, self._where(batch), self._training_scans(self._epoch, batch))

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:  # noqa: D102
        loss = (logs or {})["loss"]
        if not math.isfinite(loss):
            where = f"{self._where(batch)} of the validation"
            raise _not_finite(loss, where, self._validation_scans(self._epoch, batch))

    def _where(self, batch: int) -> str:
        return f"epoch {self._epoch + 1}, step {batch + 1}"


class EpochLog(keras.callbacks.Callback):  # type: ignore[misc]  # Keras publishes no types
    """Hands the figures of each epoch on, with its wall time and learning rate.

    Parameters
    ----------
    on_epoch
        Receives them at the end of each epoch.
    """

    def __init__(self, on_epoch: Callable[[EpochRecord], None]) -> None:
        super().__init__()
        self._on_epoch = on_epoch
        self._begun = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:  # noqa: ARG002, D102
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:  # noqa: D102
        figures = {name: float((logs or {})[name]) for name in FIGURES}
        seconds = time.perf_counter() - self._begun
        learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._on_epoch(EpochRecord(epoch + 1, **figures, seconds=seconds, learning_rate=learning_rate))


def _not_finite(loss: float, where: str, scans: Sequence[str]) -> DatasetError:
    named = "".join(f"\n  {scan}" for scan in scans)
    return DatasetError(f"The loss became {loss} in {where}. Lower the learning rate, or look at its scans:{named}")


class Loop:
    """One run's epochs.

    Parameters
    ----------
    model
        Compiled; holds the best weights when `run` returns.
    material, preset
        What it learns from, and how.
    out
        Run folder, for the history and the checkpoint.
    settings
        Of the run, for the checkpoint.
    on_progress
        Receives an `EpochDone` an epoch.
    strategy
        Of the devices that share the work; None for one device.
    """

    def __init__(
        self,
        model: keras.Model,
        material: TrainingData,
        preset: Preset,
        out: Path,
        settings: dict[str, Any],
        on_progress: OnProgress,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self._model = model
        self._material = material
        self._preset = preset
        self._out = out
        self._settings = settings
        self._on_progress = on_progress
        self._strategy = strategy
        self._records: list[EpochRecord] = []
        self._best: Arrays = ()

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go back to where the run was."""
        checkpoint.restore(self._model)
        self._records = list(checkpoint.records)
        self._best = checkpoint.best
        self._on_progress(Resumed(checkpoint.records))

    def run(self, others: Sequence[keras.callbacks.Callback] = ()) -> tuple[EpochRecord, ...]:
        """Train until the epochs or the patience are over.

        Parameters
        ----------
        others
            Callbacks that watch as well.
        """
        if not is_over(self._records, self._preset):
            self._fit(others)
        self._model.set_weights(self._best)
        return tuple(self._records)

    def _fit(self, others: Sequence[keras.callbacks.Callback]) -> None:
        material = self._material
        epochs = range(len(self._records), self._preset.epochs)
        watchers = [
            FiniteLoss(material.scans_of(material.training), material.scans_of(material.validation)),
            EpochLog(self._end_epoch),
            *others,
        ]
        fit(self._strategy, self._model, material, epochs, watchers)

    def _end_epoch(self, record: EpochRecord) -> None:
        self._records.append(record)
        best = best_epoch(self._records, self._preset.select_by) is record
        if best:
            self._best = tuple(self._model.get_weights())
        self._keep()
        self._on_progress(EpochDone(record, self._preset.epochs, best))
        self._model.stop_training = is_over(self._records, self._preset)

    def _keep(self) -> None:
        """The checkpoint before the history: of the two, it is the one that a run is resumed from."""
        checkpoint = Checkpoint(self._settings, tuple(self._records), *state_of(self._model), self._best)
        checkpoint.write(self._out / artifacts.CHECKPOINT)
        artifacts.write_history(self._out / artifacts.HISTORY, self._records)


def fit(
    strategy: tf.distribute.Strategy | None,
    model: keras.Model,
    material: TrainingData,
    epochs: range,
    watchers: Sequence[keras.callbacks.Callback],
) -> None:
    """Run epochs, counted from 0, until they are over or a callback stops them."""
    if strategy is not None:
        fit_on_several(strategy, model, material, epochs, watchers)
        return
    model.fit(
        material.batches(material.training, epochs, material.changes),
        steps_per_epoch=material.training.steps,
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        validation_data=material.batches(material.validation),
        class_weight=material.class_weights,
        callbacks=list(watchers),
        shuffle=False,  # the stream comes in its order
        verbose=0,
    )
