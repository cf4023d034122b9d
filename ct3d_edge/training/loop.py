"""Epoch after epoch: train, judge, keep the best weights, and leave a checkpoint behind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ct3d_edge.training import run_folder
from ct3d_edge.training.callbacks import FiniteLoss, Journal
from ct3d_edge.training.checkpoint import Arrays, Checkpoint, state_of
from ct3d_edge.training.material import Material
from ct3d_edge.training.presets import Preset
from ct3d_edge.training.progress import EpochDone, EpochRecord, OnProgress, Resumed
from ct3d_edge.training.replicas import fit_on_several
from ct3d_edge.training.selection import best_epoch, is_over


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
        material: Material,
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
            Journal(self._end_epoch),
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
        checkpoint.write(self._out / run_folder.CHECKPOINT)
        run_folder.write_history(self._out / run_folder.HISTORY, self._records)


def fit(
    strategy: tf.distribute.Strategy | None,
    model: keras.Model,
    material: Material,
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
