"""Training on several devices at once, with the figures of one device that had the whole batch.

Keras' own ``fit`` fails with MultiWorkerMirroredStrategy (keras-team/keras#20585), and stops where the last batch
leaves a device without a scan. Here the network's ``train_step`` and ``test_step`` run through ``tf.distribute``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.training.distribution import replicas, worker_index

Load = Callable[[tf.data.Dataset], tf.data.Dataset]
"""From batches of rows, ``(B,)`` int64, to what the network is fed: ``(x, y)`` or ``(x, y, weights)``."""


def require_shares(strategy: tf.distribute.Strategy, batch_size: int, training: int, validation: int) -> None:
    """Make sure that every device gets work in every step.

    Raises
    ------
    UsageError
        If the batch cannot be shared equally, or there are fewer scans than devices.
    """
    devices = replicas(strategy)
    if batch_size % devices:
        raise UsageError(
            f"A batch of {batch_size} cannot be shared equally by {devices} devices. "
            f"Choose a --batch-size that is a multiple of {devices}; it counts the scans of all devices together."
        )
    if min(training, validation) < devices:
        raise UsageError(
            f"{devices} devices need {devices} scans each for training and validation at least; "
            f"found {training} and {validation}."
        )


def training_shares(
    strategy: tf.distribute.Strategy, rows: Sequence[int], batch_size: int, load: Load, *, shuffle_seed: int
) -> tf.distribute.DistributedDataset:
    """Deal batches of shuffled rows out to the devices, equal shares in every step.

    Where the number of rows is no multiple of the devices, the few that are over sit out this epoch: other ones
    in each, as the order is drawn anew.

    Parameters
    ----------
    batch_size
        Scans a step, over all devices; a multiple of their number.
    shuffle_seed
        The same on all workers: each draws the same order and takes its own share.
    """
    devices = replicas(strategy)
    order = tf.data.Dataset.from_tensor_slices(np.asarray(rows, np.int64))
    order = order.shuffle(len(rows), seed=shuffle_seed, reshuffle_each_iteration=True)
    batches = order.take(len(rows) // devices * devices).batch(batch_size)
    return _dealt(strategy, batches, load, lambda batch: tf.reshape(batch, (devices, -1)))


def validation_shares(
    strategy: tf.distribute.Strategy, rows: Sequence[int], batch_size: int, load: Load
) -> tf.distribute.DistributedDataset:
    """Deal all rows out, in their order; shares may differ by one scan, but none is empty."""
    devices = replicas(strategy)
    steps = max(1, len(rows) // batch_size)
    batches = tf.data.Dataset.from_tensor_slices(
        tf.ragged.constant([part.tolist() for part in np.array_split(rows, steps)], dtype=tf.int64)
    )

    def cut(batch: tf.Tensor) -> tf.RaggedTensor:
        borders = tf.range(devices + 1, dtype=tf.int64) * tf.size(batch, tf.int64) // devices
        return tf.RaggedTensor.from_row_splits(batch, borders)

    return _dealt(strategy, batches, load, cut)


def _dealt(
    strategy: tf.distribute.Strategy,
    batches: tf.data.Dataset,
    load: Load,
    cut: Callable[[tf.Tensor], tf.Tensor | tf.RaggedTensor],
) -> tf.distribute.DistributedDataset:
    here = len(strategy.extended.worker_devices)
    first = worker_index(strategy) * here

    def shares(_: tf.distribute.InputContext) -> tf.data.Dataset:
        # One element a device of this worker: tf.distribute hands them out in turn.
        return load(batches.map(lambda batch: cut(batch)[first : first + here]).unbatch().map(_dense))

    return strategy.distribute_datasets_from_function(shares)


def _dense(rows: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
    return tf.ensure_shape(tf.convert_to_tensor(rows), (None,))


def synchronise_statistics(model: keras.Model) -> None:
    """Let batch normalisation see the whole batch, not one device's share; to be called before training."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


def fit(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    training: tf.distribute.DistributedDataset,
    validation: tf.distribute.DistributedDataset,
    *,
    epochs: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Train like ``model.fit``, the steps shared by the devices; callbacks see the figures of all of them.

    Parameters
    ----------
    model
        Built and compiled in the strategy's scope.
    callbacks
        The same on every worker, as the figures are summed over all when they are read. What writes files belongs
        on the chief alone.

    Raises
    ------
    DatasetError
        If a worker is lost.
    """
    _build_metrics(strategy, model)
    train_step, test_step = _step(strategy, model.train_step), _step(strategy, model.test_step)
    watchers = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs, verbose=0)
    model.stop_training = False
    try:
        watchers.on_train_begin()
        for epoch in range(epochs):
            watchers.on_epoch_begin(epoch)
            logs = _pass(model, train_step, training, watchers.on_train_batch_begin, watchers.on_train_batch_end)
            watchers.on_test_begin()
            checked = _pass(model, test_step, validation, watchers.on_test_batch_begin, watchers.on_test_batch_end)
            watchers.on_test_end(checked)
            logs |= {f"val_{name}": value for name, value in checked.items()}
            watchers.on_epoch_end(epoch, logs)
            if model.stop_training:
                break
        watchers.on_train_end(logs)
    except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.AbortedError) as error:
        raise DatasetError(
            "A worker was lost, so that no step can be finished; see its own messages. "
            "Start the run again on all workers."
        ) from error


def _pass(
    model: keras.Model,
    step: Callable[[Any], None],
    data: tf.distribute.DistributedDataset,
    begin: Callable[[int], None],
    end: Callable[[int, dict[str, float]], None],
) -> dict[str, float]:
    """One pass over the data; the figures so far after each step."""
    model.reset_metrics()
    logs: dict[str, float] = {}
    remaining, number = iter(data), 0
    while True:
        begin(number)
        try:
            step(remaining)
        except tf.errors.OutOfRangeError:
            return logs
        logs = {name: float(value) for name, value in model.get_metrics_result().items()}
        end(number, logs)
        number += 1


def _step(strategy: tf.distribute.Strategy, step: Callable[[Any], Any]) -> Callable[[Any], None]:
    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow publishes no types
    def run(remaining: Any) -> None:
        strategy.run(step, args=(next(remaining),))

    return run  # type: ignore[no-any-return]


def _build_metrics(strategy: tf.distribute.Strategy, model: keras.Model) -> None:
    """Create what Keras would create in the first step, where variables cannot be shared any more."""
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)
        with keras.StatelessScope():  # the figures of this empty volume are thrown away
            volume, label = tf.zeros((1, *model.input_shape[1:])), tf.zeros((1, *model.output_shape[1:]))
            probability = model(volume, training=False)
            model.compute_loss(volume, label, probability)
            model.compute_metrics(volume, label, probability)
