"""What a training run reports while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from ct3d_edge.splits.folder import ScanHashed, ScanRead


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch; the fields are the columns of ``history.csv``.

    Parameters
    ----------
    epoch
        Counted from 1.
    loss, accuracy, auc
        Over the training scans, augmented and weighted as they were, averaged while the weights moved.
    val_loss, val_accuracy, val_auc
        Over the validation scans, at the end of the epoch. The areas under the ROC curve are Keras's estimates
        from 200 thresholds.
    seconds
        Wall time, validation included.
    learning_rate
        At the end of the epoch.
    """

    epoch: int
    loss: float
    accuracy: float
    auc: float
    val_loss: float
    val_accuracy: float
    val_auc: float
    seconds: float
    learning_rate: float


@dataclass(frozen=True)
class WaitingForWorkers:
    """A worker waits for others: ``missing`` are their addresses, ``host:port``."""

    missing: tuple[str, ...]


@dataclass(frozen=True)
class Resumed:
    """A run goes on after the epochs of ``records``."""

    records: tuple[EpochRecord, ...]


@dataclass(frozen=True)
class EpochDone:
    """An epoch has ended.

    Parameters
    ----------
    record
        Its figures.
    epochs
        How many were asked for; training may stop earlier.
    best
        Whether it is the best so far, by the figure that selects the weights.
    """

    record: EpochRecord
    epochs: int
    best: bool


Event = ScanHashed | ScanRead | WaitingForWorkers | Resumed | EpochDone
OnProgress = Callable[[Event], None]


def ignore_event(event: Event) -> None:
    """Ignore the event."""
