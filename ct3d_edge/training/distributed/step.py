"""Epochs on several devices at once, with the figures of one device that had the whole batch.

Keras' own ``fit`` fails with MultiWorkerMirroredStrategy (keras-team/keras#20585), and where the last batch leaves a
device without a scan. Here the network's ``train_step`` and ``test_step`` run through ``tf.distribute``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from ct3d_edge.errors import UsageError
from ct3d_edge.training.batches import BatchOrder, TrainingData, WorkerShare
from ct3d_edge.training.distributed.strategy import devices_here

Step = Callable[[Iterator[Any]], None]


def require_whole_shares(batch_size: int, devices: int) -> None:
    """Make sure that the devices can share a batch equally.

    Raises
    ------
    UsageError
        If they cannot.
    """
    if batch_size % devices:
        raise UsageError(
            f"A batch of {batch_size} cannot be shared equally by {devices} devices. "
            f"Choose a --batch-size that is a multiple of {devices}; it counts the scans of all devices together."
        )


def require_scan_for_each(training: int, validation: int, devices: int) -> None:
    """Make sure that no device is left without a scan.

    Raises
    ------
    UsageError
        If there are fewer scans than devices.
    """
    if min(training, validation) < devices:
        raise UsageError(
            f"{devices} devices need {devices} scans each for training and validation at least; "
            f"found {training} and {validation}."
        )


def fit_on_several(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    material: TrainingData,
    epochs: range,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train like ``model.fit``, in the strategy's scope; callbacks see the figures of all devices.

    Parameters
    ----------
    model
        Built and compiled in that scope.
    epochs
        Counted from 0.
    callbacks
        On every worker, as all of them must stop at the same epoch. What writes files belongs on the chief alone.
    """
    _settle(model)
    train, test = _step(strategy, model.train_step), _step(strategy, model.test_step)
    watchers = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs.stop, verbose=0)
    training = _shares(strategy, material, material.training, epochs)
    model.stop_training = False
    watchers.on_train_begin()
    batches = iter(training)
    for epoch in epochs:
        watchers.on_epoch_begin(epoch)
        seen = watchers.on_train_batch_begin, watchers.on_train_batch_end
        logs = _pass(model, train, batches, material.training.steps, *seen)
        logs |= _validate(strategy, model, material, test, watchers)
        watchers.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    watchers.on_train_end(logs)


def _validate(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    material: TrainingData,
    step: Step,
    watchers: keras.callbacks.CallbackList,
) -> dict[str, float]:
    batches = iter(_shares(strategy, material, material.validation))
    watchers.on_test_begin()
    seen = watchers.on_test_batch_begin, watchers.on_test_batch_end
    logs = _pass(model, step, batches, material.validation.steps, *seen)
    watchers.on_test_end(logs)
    return {f"val_{name}": value for name, value in logs.items()}


def _pass(
    model: keras.Model,
    step: Step,
    batches: Iterator[Any],
    steps: int,
    begin: Callable[[int], None],
    end: Callable[[int, dict[str, float]], None],
) -> dict[str, float]:
    """So many steps; the figures so far after each, added up over all workers, and those of all."""
    model.reset_metrics()
    logs: dict[str, float] = {}
    for number in range(steps):
        begin(number)
        step(batches)
        logs = {name: float(value) for name, value in model.get_metrics_result().items()}
        end(number, logs)
    return logs


def _step(strategy: tf.distribute.Strategy, step: Callable[[Any], Any]) -> Step:
    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow publishes no types
    def run(batches: Iterator[Any]) -> None:
        strategy.run(step, args=(next(batches),))

    return run  # type: ignore[no-any-return]


def _shares(
    strategy: tf.distribute.Strategy, material: TrainingData, order: BatchOrder, epochs: range | None = None
) -> tf.distribute.DistributedDataset:
    """Stream this worker's shares of an order: changed and weighted for the epochs of a training, else as they are."""
    share = WorkerShare(order, devices_here(strategy))
    if epochs is None:
        made = material.batches(share)
    else:
        made = _weighted(material.batches(share, epochs, material.changes), material.class_weights)
    # tf.distribute hands the elements of what it is given here to the devices in turn, as they are.
    return strategy.distribute_datasets_from_function(lambda _: made)


def _weighted(stream: tf.data.Dataset, class_weights: Mapping[int, float] | None) -> tf.data.Dataset:
    """Add the weight of each scan, as Keras does for ``class_weight``: ``(B,)`` float32."""
    if class_weights is None:
        return stream
    by_label = tf.constant([class_weights[0], class_weights[1]], tf.float32)
    return stream.map(lambda volumes, labels: (volumes, labels, tf.gather(by_label, tf.cast(labels[:, 0], tf.int32))))


def _settle(model: keras.Model) -> None:
    """Make a network fit for several devices, before anything is traced."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True  # statistics of the whole batch, not of one device's share
        if isinstance(layer, keras.layers.Dropout):
            # Every device has the same state: without this the first scan of each share would lose the same units.
            layer.seed_generator.next = partial(_seed_of_device, layer.seed_generator.next)
    # Keras would create what follows in the first step, where variables cannot be shared any more.
    model.optimizer.build(model.trainable_variables)
    with keras.StatelessScope():  # the figures are thrown away
        one = tf.ones((1, *model.output_shape[1:]))
        model.compute_loss(y=one, y_pred=one)
        model.compute_metrics(None, one, one)


def _seed_of_device(draw: Callable[..., tf.Tensor], ordered: bool = True) -> tf.Tensor:
    """Draw the common seed and make it this device's own; the first device keeps it."""
    seed = draw(ordered)
    device = tf.distribute.get_replica_context().replica_id_in_sync_group
    return seed + tf.stack([tf.cast(device, seed.dtype), tf.zeros((), seed.dtype)])
