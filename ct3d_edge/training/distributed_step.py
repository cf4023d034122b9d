"""Epochs on several devices at once, with the figures of one device that had the whole batch.

Keras' own ``fit`` still fails with MultiWorkerMirroredStrategy in version 3.15 (keras-team/keras#20585). Here the
network's ``train_step`` and ``test_step`` run through ``tf.distribute``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from ct3d_edge.errors import UsageError
from ct3d_edge.training.batches import BatchOrder, TrainingData, WorkerShare
from ct3d_edge.training.distributed import local_devices

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
            f"Choose a `batch_size` that is a multiple of {devices}; it counts the scans of all devices together."
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


def fit_distributed(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    data: TrainingData,
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
    prepare_for_replicas(model)
    train, test = _distribute_step(strategy, model.train_step), _distribute_step(strategy, model.test_step)
    callback_list = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs.stop, verbose=0)
    training = _distribute(strategy, data, data.training, epochs)
    model.stop_training = False
    callback_list.on_train_begin()
    batches = iter(training)
    for epoch in epochs:
        callback_list.on_epoch_begin(epoch)
        on_batch = callback_list.on_train_batch_begin, callback_list.on_train_batch_end
        logs = _run_steps(model, train, batches, data.training.steps, *on_batch)
        logs |= _validate(strategy, model, data, test, callback_list)
        callback_list.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callback_list.on_train_end(logs)


def _validate(
    strategy: tf.distribute.Strategy,
    model: keras.Model,
    data: TrainingData,
    step: Step,
    callback_list: keras.callbacks.CallbackList,
) -> dict[str, float]:
    batches = iter(_distribute(strategy, data, data.validation))
    callback_list.on_test_begin()
    on_batch = callback_list.on_test_batch_begin, callback_list.on_test_batch_end
    logs = _run_steps(model, step, batches, data.validation.steps, *on_batch)
    callback_list.on_test_end(logs)
    return {f"val_{name}": value for name, value in logs.items()}


def _run_steps(
    model: keras.Model,
    step: Step,
    batches: Iterator[Any],
    steps: int,
    begin: Callable[[int], None],
    end: Callable[[int, dict[str, float]], None],
) -> dict[str, float]:
    """Run ``steps`` steps; the figures so far, added up over all workers, go to ``end`` after each."""
    model.reset_metrics()
    logs: dict[str, float] = {}
    for number in range(steps):
        begin(number)
        step(batches)
        logs = {name: float(value) for name, value in model.get_metrics_result().items()}
        end(number, logs)
    return logs


def _distribute_step(strategy: tf.distribute.Strategy, step: Callable[[Any], Any]) -> Step:
    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow publishes no types
    def run(batches: Iterator[Any]) -> None:
        strategy.run(step, args=(next(batches),))

    return run  # type: ignore[no-any-return]


def _distribute(
    strategy: tf.distribute.Strategy, data: TrainingData, order: BatchOrder, epochs: range | None = None
) -> tf.distribute.DistributedDataset:
    """Stream this worker's shares of an order, augmented and weighted if ``epochs`` of a training are given."""
    share = WorkerShare(order, local_devices(strategy))
    if epochs is None:
        stream = data.batches(share)
    else:
        stream = _add_weights(data.batches(share, epochs, data.changes), data.class_weights)
    # tf.distribute gives the elements of this stream to the devices in turn, unchanged.
    return strategy.distribute_datasets_from_function(lambda _: stream)


def _add_weights(stream: tf.data.Dataset, class_weights: Mapping[int, float] | None) -> tf.data.Dataset:
    """Add the weight of each scan, as Keras does for ``class_weight``: ``(B,)`` float32."""
    if class_weights is None:
        return stream
    by_label = tf.constant([class_weights[0], class_weights[1]], tf.float32)
    return stream.map(lambda volumes, labels: (volumes, labels, tf.gather(by_label, tf.cast(labels[:, 0], tf.int32))))


def prepare_for_replicas(model: keras.Model) -> None:
    """Make a network train on several devices as on one, before anything is traced."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True  # statistics of the whole batch, not of one device's share
        if isinstance(layer, keras.layers.Dropout):
            # Every device has the same state: without this the first scan of each share would drop the same units.
            layer.seed_generator.next = partial(_seed_of_device, layer.seed_generator.next)
    # Keras would create these variables in the first step, where they cannot be mirrored any more.
    model.optimizer.build(model.trainable_variables)
    with keras.StatelessScope():  # only the variables are wanted
        one = tf.ones((1, *model.output_shape[1:]))
        model.compute_loss(y=one, y_pred=one)
        model.compute_metrics(None, one, one)


def _seed_of_device(draw: Callable[..., tf.Tensor], ordered: bool = True) -> tf.Tensor:
    """Draw the common seed and make it this device's own; the first device keeps it."""
    seed = draw(ordered)
    device = tf.distribute.get_replica_context().replica_id_in_sync_group
    return seed + tf.stack([tf.cast(device, seed.dtype), tf.zeros((), seed.dtype)])
