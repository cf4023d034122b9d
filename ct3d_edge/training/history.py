"""The figures of every epoch: ``history.csv`` and ``curves.png``."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ct3d_edge.system.atomic_write import atomic_file

PANELS = ("loss", "accuracy", "auc")


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
    elapsed
        Seconds that this and all earlier epochs took, those before an interruption included.
    """

    record: EpochRecord
    epochs: int
    best: bool
    elapsed: float


OnEpoch = Callable[[EpochDone], None]


def write_history(path: Path, records: Sequence[EpochRecord]) -> None:
    """Write all epochs so far as CSV, one a line; numbers in full so that equal runs give equal files."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in records)
    with atomic_file(path) as stream:
        stream.write(text.getvalue().encode())


def draw_curves(records: Sequence[EpochRecord], best: EpochRecord, path: Path) -> None:
    """Draw training against validation as PNG, with a line at the epoch whose weights the model has.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    epochs = [record.epoch for record in records]
    for axes, name in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for label, field in (("training", name), ("validation", f"val_{name}")):
            axes.plot(epochs, [getattr(record, field) for record in records], marker=".", label=label)
        axes.axvline(best.epoch, color="grey", linestyle=":", label="best epoch")
        axes.set(xlabel="epoch", title=name if name != "auc" else "AUC")
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    with atomic_file(path) as stream:
        figure.savefig(stream, format="png", dpi=120)
