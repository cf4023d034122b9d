"""Loss, accuracy and AUC over the epochs, as a picture."""

from collections.abc import Sequence
from pathlib import Path

from ct3d_edge.atomic import atomic_file
from ct3d_edge.training.progress import EpochRecord

PANELS = ("loss", "accuracy", "auc")


def draw_curves(records: Sequence[EpochRecord], best: EpochRecord, path: Path) -> None:
    """Draw training against validation, with a line at the epoch whose weights were kept.

    Parameters
    ----------
    path
        PNG to write.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    epochs = [record.epoch for record in records]
    for axes, name in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
        for label, field in (("training", name), ("validation", f"val_{name}")):
            axes.plot(epochs, [getattr(record, field) for record in records], marker=".", label=label)
        axes.axvline(best.epoch, color="grey", linestyle=":", label="weights kept")
        axes.set(xlabel="epoch", title=name if name != "auc" else "AUC")
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    with atomic_file(path) as stream:
        figure.savefig(stream, format="png", dpi=120)
