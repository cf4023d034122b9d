"""Keras on TensorFlow, imported without TensorFlow's chatter."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ct3d_edge.errors import MissingExtraError


def import_keras() -> None:
    """Import Keras on TensorFlow and tf2onnx, and let TensorFlow look for devices.

    Raises
    ------
    MissingExtraError
        If one of them is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        with _stderr_held_back():
            import keras  # noqa: F401
            import tensorflow as tf
            import tf2onnx  # noqa: F401

            tf.config.list_physical_devices()
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'This command needs Keras, TensorFlow and tf2onnx ({error}): pip install "ct3d-edge[train]"'
        ) from error


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Keep what the process writes to standard error, and show it only if something fails.

    TensorFlow's libraries write there before their log level takes effect, past Python's ``sys.stderr``.
    """
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(real, held.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)
