"""Early stopping: which epoch is best, and when training ends."""

from collections.abc import Sequence

from ct3d_edge.training.history import EpochRecord
from ct3d_edge.training.presets import Criterion, Preset


def best_epoch(records: Sequence[EpochRecord], criterion: Criterion) -> EpochRecord:
    """The epoch with the lowest loss, or the highest accuracy or AUC; of equal ones the first."""
    sign = -1 if criterion == "val_loss" else 1
    return max(records, key=lambda record: sign * float(getattr(record, criterion)))


def is_over(records: Sequence[EpochRecord], preset: Preset) -> bool:
    """Whether all epochs were run, or the patience has ended."""
    if not records:
        return False
    waited = len(records) - best_epoch(records, preset.stop_by).epoch
    return waited >= preset.patience or len(records) >= preset.epochs
