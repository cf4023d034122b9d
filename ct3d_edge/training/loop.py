"""Epoch after epoch: train, judge, keep the best weights, and leave a checkpoint behind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ct3d_edge.augmentation import Augmentation, augmentation
from ct3d_edge.contract import Contract
from ct3d_edge.training import run_folder
from ct3d_edge.training.batches import Order, batches
from ct3d_edge.training.callbacks import FiniteLoss, Journal
from ct3d_edge.training.checkpoint import Arrays, Checkpoint, state_of
from ct3d_edge.training.dataset import ScanArrays
from ct3d_edge.training.presets import Preset
from ct3d_edge.training.progress import EpochDone, EpochRecord, OnProgress, Resumed
from ct3d_edge.training.selection import best_epoch, is_over


@dataclass(frozen=True, eq=False)
class Material:
    """What a network is trained on: prepared scans, those for training first, then those for validation.

    Parameters
    ----------
    arrays, names
        The scans and their paths.
    contract
        What they were prepared under.
    training, validation
        In which order they are gone through.
    """

    arrays: ScanArrays
    names: tuple[str, ...]
    contract: Contract
    training: Order
    validation: Order

    @classmethod
    def of(cls, arrays: ScanArrays, contract: Contract, batch_size: int, seed: int) -> "Material":
        """Divide the scans of a split."""
        split = arrays.split
        entries = split.train + split.validation
        border = len(split.train)
        return cls(
            arrays,
            tuple(entry.path for entry in entries),
            contract,
            Order(range(border), batch_size, seed),
            Order(range(border, len(entries)), batch_size),
        )

    def batches(self, order: Order, epochs: range = range(1), changes: Augmentation | None = None) -> tf.data.Dataset:
        """Stream one of the two orders; see `ct3d_edge.training.batches`."""
        return batches(self.arrays.volumes, self.arrays.labels, order, epochs, changes)

    def scans_of(self, order: Order) -> Callable[[int, int], Sequence[str]]:
        """Function that names the scans of a batch, by epoch and step counted from 0."""
        return lambda epoch, step: [self.names[row] for row in order.of_batch(epoch, step)]

    def class_weights(self) -> dict[int, float]:
        """Weight of each class that makes both count the same, however many scans each has: mean one a scan."""
        labels = self.arrays.labels[list(self.training.rows)]
        return {label: len(labels) / (2 * int((labels == label).sum())) for label in (0, 1)}


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
    """

    def __init__(
        self,
        model: keras.Model,
        material: Material,
        preset: Preset,
        out: Path,
        settings: dict[str, Any],
        on_progress: OnProgress,
    ) -> None:
        self._model = model
        self._material = material
        self._preset = preset
        self._out = out
        self._settings = settings
        self._on_progress = on_progress
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
        material, preset = self._material, self._preset
        epochs = range(len(self._records), preset.epochs)
        changes = augmentation(preset.augmentation, material.contract)
        watchers = [
            FiniteLoss(material.scans_of(material.training), material.scans_of(material.validation)),
            Journal(self._end_epoch),
            *others,
        ]
        self._model.fit(
            material.batches(material.training, epochs, changes),
            steps_per_epoch=material.training.steps,
            initial_epoch=epochs.start,
            epochs=epochs.stop,
            validation_data=material.batches(material.validation),
            class_weight=material.class_weights() if preset.class_weights else None,
            callbacks=watchers,
            shuffle=False,  # the stream comes in its order
            verbose=0,
        )

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
