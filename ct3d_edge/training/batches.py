"""Prepared scans as a stream of batches, in an order and with changes that seed and epoch alone decide.

Nothing is drawn from a generator whose state would have to be saved: so a run can be resumed, and a bad batch named.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ct3d_edge.augmentation.registry import Augmentation, get_augmentation
from ct3d_edge.contract import Contract
from ct3d_edge.system.machine import count_usable_cores
from ct3d_edge.training.data import ScanArrays, VolumeSource
from ct3d_edge.training.presets import Preset

PREFETCHED_BATCHES = 2
"""Reading 4 MiB from the page cache is far quicker than a training step."""


class SharedOrder(Protocol):
    """Rows in batches, numbered by epoch and step, both counted from 0."""

    @property
    def seed(self) -> int | None:
        """Draws the order of each epoch, and the changes of its volumes."""

    @property
    def steps(self) -> int:
        """Batches an epoch."""

    def of_batch(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The rows of one batch."""


@dataclass(frozen=True)
class BatchOrder:
    """The order of a range of rows, epoch by epoch.

    Parameters
    ----------
    rows
        Indices of the scans.
    batch_size
        Scans at a time; the last batch of an epoch may be short.
    seed
        Draws the order of each epoch; None keeps that of the rows.
    devices
        How many share each batch. A last batch that has not a scan for each of them joins the one before.
    equal
        Whether all devices get equally many. The few scans that remain are left out of an epoch, others in each.
    """

    rows: range
    batch_size: int
    seed: int | None = None
    devices: int = 1
    equal: bool = False

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(self._used, self.batch_size)
        return whole + (rest >= self.devices)

    def of_epoch(self, epoch: int) -> NDArray[np.int64]:
        """All rows in the order of one epoch, counted from 0."""
        rows = np.asarray(self.rows, np.int64)
        drawn = rows if self.seed is None else np.random.default_rng((self.seed, epoch)).permutation(rows)
        return drawn[: self._used]

    def of_batch(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The rows of one batch, epoch and step counted from 0."""
        end = None if step == self.steps - 1 else (step + 1) * self.batch_size
        return self.of_epoch(epoch)[step * self.batch_size : end]

    @property
    def _used(self) -> int:
        return len(self.rows) - (len(self.rows) % self.devices if self.equal else 0)


@dataclass(frozen=True)
class WorkerShare:
    """The batches of the devices of one worker: in each step one for the first, one for the second, and so on.

    Parameters
    ----------
    order
        Its batches are divided into runs of neighbouring rows, whose lengths differ by one at most.
    devices
        Those of this worker, out of ``order.devices``.
    """

    order: BatchOrder
    devices: range

    @property
    def seed(self) -> int | None:
        """That of the order."""
        return self.order.seed

    @property
    def steps(self) -> int:
        """Batches an epoch, those of all these devices."""
        return self.order.steps * len(self.devices)

    def of_batch(self, epoch: int, step: int) -> NDArray[np.int64]:
        """The rows of one device in one step, counted as `steps` counts them."""
        step, turn = divmod(step, len(self.devices))
        return np.array_split(self.order.of_batch(epoch, step), self.order.devices)[self.devices[turn]]


def batches(
    volumes: VolumeSource,
    labels: NDArray[np.float32],
    order: SharedOrder,
    epochs: range = range(1),
    augmentation: Augmentation | None = None,
    workers: int | None = None,
) -> tf.data.Dataset:
    """Stream epochs, one after the other, as pairs of ``(B, W, H, D, 1)`` and ``(B, 1)`` float32.

    Parameters
    ----------
    volumes, labels
        By row; ``(N,)`` labels.
    order
        Order of the rows.
    epochs
        Counted from 0.
    augmentation
        Changes each volume, by a generator that is seeded with the order's seed, the epoch and the row.
    workers
        Batches that are prepared at the same time; None for one per usable CPU.
    """
    _, *shape = volumes.shape

    def volume(epoch: int, row: int) -> NDArray[np.float32]:
        if augmentation is None:
            return volumes[row]
        return augmentation(volumes[row], np.random.default_rng((order.seed or 0, epoch, row)))

    def load(epoch: int, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rows = order.of_batch(epoch, step)
        stacked = np.stack([volume(epoch, row) for row in rows])
        return stacked[..., np.newaxis], labels[rows, np.newaxis]

    def batch(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        where = [number // order.steps, number % order.steps]
        inputs, truth = tf.numpy_function(load, where, [tf.float32, tf.float32], stateful=False)
        return tf.ensure_shape(inputs, (None, *shape, 1)), tf.ensure_shape(truth, (None, 1))

    numbers = tf.data.Dataset.range(epochs.start * order.steps, epochs.stop * order.steps)
    stream = numbers.map(batch, num_parallel_calls=workers or count_usable_cores(), deterministic=True)
    return stream.prefetch(PREFETCHED_BATCHES)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Prepared scans, those for training first, then those for validation.

    Parameters
    ----------
    arrays, names
        The scans and their paths.
    training, validation
        Their orders.
    changes
        Augmentation of each training volume.
    class_weights
        Weight of each class in the training loss; None weighs every scan the same.
    teacher_volumes
        The same scans for a teacher whose input has another size; None without one.
    """

    arrays: ScanArrays
    names: tuple[str, ...]
    training: BatchOrder
    validation: BatchOrder
    changes: Augmentation
    class_weights: dict[int, float] | None
    teacher_volumes: VolumeSource | None = None

    @classmethod
    def of(
        cls,
        arrays: ScanArrays,
        contract: Contract,
        preset: Preset,
        seed: int,
        devices: int = 1,
        teacher_volumes: VolumeSource | None = None,
    ) -> "TrainingData":
        """Divide the scans of a split; ``devices`` is how many share each batch."""
        count, names = arrays.training_count, arrays.names
        return cls(
            arrays,
            names,
            BatchOrder(range(count), preset.batch_size, seed, devices, equal=True),
            BatchOrder(range(count, len(names)), preset.batch_size, None, devices),
            get_augmentation(preset.augmentation, contract),
            _balance_classes(arrays, count) if preset.class_weights else None,
            teacher_volumes,
        )

    def batches(
        self, order: SharedOrder, epochs: range = range(1), changes: Augmentation | None = None
    ) -> tf.data.Dataset:
        """Stream one of the two orders, or a share of it; see `ct3d_edge.training.batches`.

        With ``changes`` and volumes of a teacher, the input is a pair: both are changed by the same draws.
        """
        stream = batches(self.arrays.volumes, self.arrays.labels, order, epochs, changes)
        if changes is None or self.teacher_volumes is None:
            return stream
        others = batches(self.teacher_volumes, self.arrays.labels, order, epochs, changes)
        return tf.data.Dataset.zip((stream, others)).map(lambda own, other: ((own[0], other[0]), own[1]))

    def scans_of(self, order: BatchOrder) -> Callable[[int, int], Sequence[str]]:
        """Function that names the scans of a batch, by epoch and step counted from 0."""
        return lambda epoch, step: [self.names[row] for row in order.of_batch(epoch, step)]


def _balance_classes(arrays: ScanArrays, count: int) -> dict[int, float]:
    """Weights that make both classes of the first rows count the same, however many each has: mean one a scan."""
    labels = arrays.labels[:count]
    return {label: count / (2 * int((labels == label).sum())) for label in (0, 1)}
