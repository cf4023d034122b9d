"""Train a tiny network in this process and print what came of it: run by test_distribution.py in fresh processes.

Usage: distributed_run.py KIND ROWS BATCH_SIZE [--logical-devices N] [--leave-after-epoch N] [--wait SECONDS]
"""

import argparse
import json
import os
import sys

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ct3d_edge.errors import Ct3dError
from ct3d_edge.training import distribution, replicas

SIZE = (10, 10, 10)


def network() -> keras.Model:
    """A block of the real network, small; both kinds of state: moving statistics and optimizer."""
    volume = keras.Input((*SIZE, 1))
    features = keras.layers.MaxPool3D(2)(keras.layers.Conv3D(4, 3, activation="relu")(volume))
    features = keras.layers.BatchNormalization(momentum=0.9)(features)
    features = keras.layers.GlobalAveragePooling3D()(features)
    return keras.Model(volume, keras.layers.Dense(1, activation="sigmoid")(features))


def load(rows: tf.data.Dataset) -> tf.data.Dataset:
    """Rows become noise, brighter where the label is 1."""

    def volumes(batch: NDArray[np.int64]) -> tuple[NDArray[np.float32], ...]:
        labels = (batch % 3 == 0).astype(np.float32)[:, np.newaxis]
        noise = [np.random.default_rng(int(row)).random((*SIZE, 1), np.float32) for row in batch]
        return np.stack(noise) + 0.3 * labels[..., None, None, None], labels, 1 + labels[:, 0]

    def sample(batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        x, y, weights = tf.numpy_function(volumes, [batch], [tf.float32] * 3)
        return tf.ensure_shape(x, (None, *SIZE, 1)), tf.ensure_shape(y, (None, 1)), tf.ensure_shape(weights, (None,))

    return rows.map(sample)


class Watch(keras.callbacks.Callback):  # type: ignore[misc]  # Keras publishes no types
    """Keeps the figures of each epoch; leaves without a word after one of them, as a killed process does."""

    def __init__(self, leave_after: int) -> None:
        super().__init__()
        self.epochs: list[dict[str, float]] = []
        self._leave_after = leave_after

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epochs.append(dict(logs or {}))
        if epoch + 1 == self._leave_after:
            os._exit(9)


def compiled() -> keras.Model:
    model = network()
    replicas.synchronise_statistics(model)
    auc = keras.metrics.AUC(name="auc")
    model.compile(keras.optimizers.Adam(1e-2), loss="binary_crossentropy", metrics=["accuracy", auc])
    return model


def run(options: argparse.Namespace) -> dict[str, object]:
    if options.logical_devices > 1:
        devices = [tf.config.LogicalDeviceConfiguration()] * options.logical_devices
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
    strategy = distribution.open_strategy(options.kind, wait=options.wait)
    keras.utils.set_random_seed(1)
    with distribution.scope(strategy):
        model = compiled()
    watch = Watch(options.leave_after_epoch)
    best = keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True)
    rows = list(range(options.rows))
    if strategy is None:
        order = tf.data.Dataset.from_tensor_slices(np.asarray(rows, np.int64))
        mixed = order.shuffle(len(rows), seed=3, reshuffle_each_iteration=True).batch(options.batch_size)
        check = load(order.batch(options.batch_size))
        callbacks = [watch, best]
        model.fit(load(mixed), validation_data=check, epochs=3, callbacks=callbacks, shuffle=False, verbose=0)
    else:
        replicas.require_shares(strategy, options.batch_size, len(rows), len(rows))
        distribution.require_agreement(strategy, options.digest)
        training = replicas.training_shares(strategy, rows, options.batch_size, load, shuffle_seed=3)
        validation = replicas.validation_shares(strategy, rows, options.batch_size, load)
        replicas.fit(strategy, model, training, validation, epochs=3, callbacks=[watch, best])
    weights = [weight.tolist() for weight in model.get_weights()]
    chief, count = distribution.is_chief(strategy), distribution.replicas(strategy)
    distribution.wait_for_all(strategy)
    return {"epochs": watch.epochs, "weights": weights, "chief": chief, "replicas": count}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("rows", type=int)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("--logical-devices", type=int, default=1)
    parser.add_argument("--leave-after-epoch", type=int, default=0)
    parser.add_argument("--wait", type=float, default=60)
    parser.add_argument("--digest", default="abcdef")
    try:
        print(json.dumps(run(parser.parse_args())))
    except Ct3dError as error:
        sys.stderr.write(f"ERROR {error}\n")
        sys.exit(error.exit_code)
