"""What a network is trained on: prepared scans, in which order, and with which changes and weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

from ct3d_edge.augmentation import Augmentation, augmentation
from ct3d_edge.contract import Contract
from ct3d_edge.training.batches import Dealt, Order, batches
from ct3d_edge.training.dataset import ScanArrays
from ct3d_edge.training.presets import Preset


@dataclass(frozen=True, eq=False)
class Material:
    """Prepared scans, those for training first, then those for validation.

    Parameters
    ----------
    arrays, names
        The scans and their paths.
    training, validation
        In which order they are gone through.
    changes
        What is done to each training volume.
    class_weights
        Weight of each class in the training loss; None weighs every scan the same.
    """

    arrays: ScanArrays
    names: tuple[str, ...]
    training: Order
    validation: Order
    changes: Augmentation
    class_weights: dict[int, float] | None

    @classmethod
    def of(cls, arrays: ScanArrays, contract: Contract, preset: Preset, seed: int, devices: int = 1) -> "Material":
        """Divide the scans of a split; ``devices`` is how many share each batch."""
        split = arrays.split
        entries = split.train + split.validation
        border = len(split.train)
        return cls(
            arrays,
            tuple(entry.path for entry in entries),
            Order(range(border), preset.batch_size, seed, devices, equal=True),
            Order(range(border, len(entries)), preset.batch_size, None, devices),
            augmentation(preset.augmentation, contract),
            _balanced(arrays, border) if preset.class_weights else None,
        )

    def batches(self, order: Dealt, epochs: range = range(1), changes: Augmentation | None = None) -> tf.data.Dataset:
        """Stream one of the two orders, or a share of it; see `ct3d_edge.training.batches`."""
        return batches(self.arrays.volumes, self.arrays.labels, order, epochs, changes)

    def scans_of(self, order: Order) -> Callable[[int, int], Sequence[str]]:
        """Function that names the scans of a batch, by epoch and step counted from 0."""
        return lambda epoch, step: [self.names[row] for row in order.of_batch(epoch, step)]


def _balanced(arrays: ScanArrays, count: int) -> dict[int, float]:
    """Weights that make both classes of the first rows count the same, however many each has: mean one a scan."""
    labels = arrays.labels[:count]
    return {label: count / (2 * int((labels == label).sum())) for label in (0, 1)}
