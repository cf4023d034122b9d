"""The epochs of a run: train, validate, remember the best weights, write checkpoints."""

import logging
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
from ct3d_edge.training.distributed import is_chief
from ct3d_edge.training.distributed_step import fit_distributed
from ct3d_edge.training.early_stopping import best_epoch, is_over
from ct3d_edge.training.history import EpochDone, EpochRecord, OnEpoch, write_history
from ct3d_edge.training.presets import Preset

LOGGER = logging.getLogger("ct3d_edge.training")

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
    """Passes on the figures of each epoch, with its wall time and learning rate.

    Parameters
    ----------
    on_epoch
        Receives them at the end of each epoch.
    """

    def __init__(self, on_epoch: Callable[[EpochRecord], None]) -> None:
        super().__init__()
        self._on_epoch = on_epoch
        self._started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:  # noqa: ARG002, D102
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:  # noqa: D102
        figures = {name: float((logs or {})[name]) for name in FIGURES}
        seconds = time.perf_counter() - self._started
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
    data, preset
        The scans, and how the network learns from them.
    out
        Run folder, for the history and the checkpoint.
    settings
        Of the run, for the checkpoint.
    on_epoch
        Receives an `EpochDone` an epoch.
    strategy
        Of the devices that share the work; None for one device.
    """

    def __init__(
        self,
        model: keras.Model,
        data: TrainingData,
        preset: Preset,
        out: Path,
        settings: dict[str, Any],
        on_epoch: OnEpoch | None,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        self._model = model
        self._data = data
        self._preset = preset
        self._out = out
        self._settings = settings
        self._on_epoch = on_epoch
        self._strategy = strategy
        self._records: list[EpochRecord] = []
        self._best: Arrays = ()

    def _resume(self, checkpoint: Checkpoint) -> None:
        """Restore the state after the last complete epoch."""
        checkpoint.restore(self._model)
        self._records = list(checkpoint.records)
        self._best = checkpoint.best
        if is_chief(self._strategy):
            LOGGER.info("resuming after epoch %d", len(self._records))

    def run(
        self, others: Sequence[keras.callbacks.Callback] = (), checkpoint: Checkpoint | None = None
    ) -> tuple[EpochRecord, ...]:
        """Train until the epochs or the patience are over.

        Parameters
        ----------
        others
            More callbacks.
        checkpoint
            The last complete epoch of an interrupted run, after which training goes on.
        """
        if checkpoint is not None:
            self._resume(checkpoint)
        if not is_over(self._records, self._preset):
            self._fit(others)
        self._model.set_weights(self._best)
        return tuple(self._records)

    def _fit(self, others: Sequence[keras.callbacks.Callback]) -> None:
        data = self._data
        epochs = range(len(self._records), self._preset.epochs)
        finite = FiniteLoss(data.scans_of(data.training), data.scans_of(data.validation))
        fit(self._strategy, self._model, data, epochs, [finite, EpochLog(self._end_epoch), *others])

    def _end_epoch(self, record: EpochRecord) -> None:
        self._records.append(record)
        best = best_epoch(self._records, self._preset.select_by) is record
        if best:
            self._best = tuple(self._model.get_weights())
        self._write_state()
        if self._on_epoch is not None:
            elapsed = sum(record.seconds for record in self._records)
            self._on_epoch(EpochDone(record, self._preset.epochs, best, elapsed))
        self._model.stop_training = is_over(self._records, self._preset)

    def _write_state(self) -> None:
        """Write the checkpoint before the history: a run is resumed from the checkpoint."""
        checkpoint = Checkpoint(self._settings, tuple(self._records), *state_of(self._model), self._best)
        checkpoint.write(self._out / artifacts.CHECKPOINT)
        write_history(self._out / artifacts.HISTORY, self._records)


def fit(
    strategy: tf.distribute.Strategy | None,
    model: keras.Model,
    data: TrainingData,
    epochs: range,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Run epochs, counted from 0, until they are over or a callback stops them."""
    if strategy is not None:
        fit_distributed(strategy, model, data, epochs, callbacks)
        return
    model.fit(
        data.batches(data.training, epochs, data.changes),
        steps_per_epoch=data.training.steps,
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        validation_data=data.batches(data.validation),
        class_weight=data.class_weights,
        callbacks=list(callbacks),
        shuffle=False,  # the stream comes in its order
        verbose=0,
    )
