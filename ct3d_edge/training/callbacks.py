"""What watches over a fit: figures of each epoch, and a stop as soon as the loss is no number."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import keras

from ct3d_edge.errors import DatasetError
from ct3d_edge.training.progress import EpochRecord

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


class Journal(keras.callbacks.Callback):  # type: ignore[misc]  # Keras publishes no types
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
