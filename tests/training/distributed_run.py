"""``ct3d-edge`` with a tiny network: run by the tests of distributed training in fresh processes.

Usage: distributed_run.py LOGICAL_CPU_DEVICES EPOCH_TO_DIE_AFTER ARGUMENT... (0 for none)
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    import keras

SIZE = (10, 10, 10)


def network(*size: int) -> "keras.Model":
    """A block of the real network, small; both kinds of state: running statistics and optimizer. No dropout."""
    import keras

    volume = keras.Input((*size, 1))
    features = keras.layers.MaxPool3D(2)(keras.layers.Conv3D(4, 3, activation="relu")(volume))
    features = keras.layers.BatchNormalization()(features)
    features = keras.layers.GlobalAveragePooling3D()(features)
    return keras.Model(volume, keras.layers.Dense(1, activation="sigmoid", dtype="float32")(features))


def split_cpu(count: int) -> None:
    """Let TensorFlow see so many CPUs; to be called before it computes."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)


def write_and_die_after(epoch: int) -> Callable[..., None]:
    """A way to write the history that ends the process without a word after an epoch, as if it had been killed."""
    from ct3d_edge.training.history import write_history

    def write(path: Path, records: Sequence[Any]) -> None:
        write_history(path, records)
        if len(records) == epoch:
            os._exit(9)

    return write


# What prepares the scans in processes of their own imports this file afresh: nothing heavy above.
if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    from ct3d_edge.cli.app import main
    from ct3d_edge.keras_backend import import_keras

    devices, last, *arguments = sys.argv[1:]
    import_keras()
    split_cpu(int(devices))
    sys.argv[1:] = arguments
    with (
        mock.patch("ct3d_edge.training.network.NetworkSpec.build", lambda _, *size: network(*size)),
        mock.patch("ct3d_edge.training.loop.write_history", write_and_die_after(int(last))),
    ):
        main()
