"""What watches over a fit: figures of each epoch, and a stop as soon as the loss is no number."""

import math
import time
from collections.abc import Callable, Mapping

import keras

from ct3d_edge.errors import DatasetError
from ct3d_edge.training.progress import EpochRecord

Logs = Mapping[str, float]


class FiniteLoss(keras.callbacks.Callback):  # type: ignore[misc]  # Keras publishes no types
    """Stops at the first step after which the loss is NaN or infinite.

    Raises
    ------
    DatasetError
        Naming epoch and step, both counted from 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:  # noqa: ARG002, D102
        self._epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:  # noqa: D102
        # Keras reports the mean since the epoch's start: it is finite until the first value that is not.
        _require_finite((logs or {})["loss"], f"epoch {self._epoch}, step {batch + 1}")

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:  # noqa: D102
        _require_finite((logs or {})["loss"], f"epoch {self._epoch}, step {batch + 1} of the validation")


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
        figures = {name: float((logs or {})[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")}
        seconds = time.perf_counter() - self._begun
        learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self._on_epoch(EpochRecord(epoch + 1, **figures, seconds=seconds, learning_rate=learning_rate))


def _require_finite(loss: float, where: str) -> None:
    if not math.isfinite(loss):
        raise DatasetError(f"The loss became {loss} in {where}. Lower the learning rate.")
