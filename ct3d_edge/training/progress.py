"""What a training run reports while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from ct3d_edge.cohort import ScanHashed, ScanRead


@dataclass(frozen=True)
class EpochRecord:
    """Figures of one epoch; the fields are the columns of ``history.csv``.

    Parameters
    ----------
    epoch
        Counted from 1.
    loss, accuracy
        Over the training scans, averaged while the weights moved.
    val_loss, val_accuracy
        Over the validation scans, at the end of the epoch.
    seconds
        Wall time, validation included.
    learning_rate
        At the end of the epoch.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    learning_rate: float


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
        Whether its validation loss is the lowest so far.
    """

    record: EpochRecord
    epochs: int
    best: bool


Event = ScanHashed | ScanRead | EpochDone
OnProgress = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignore the event."""
