"""Keras on TensorFlow, imported without TensorFlow's chatter, or a sentence that says how to install it."""

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from ct3d_edge.errors import UsageError
from ct3d_edge.extras import require_extra

NEEDED = ("keras", "tensorflow", "tf2onnx")


def import_keras() -> None:
    """Import Keras on TensorFlow and let TensorFlow look for devices, which is when it speaks.

    To be called before anything from the rooms ``training`` and ``conversion`` is imported.

    Raises
    ------
    MissingExtraError
        If Keras, TensorFlow or tf2onnx is not installed.
    UsageError
        If the environment asks for another Keras backend.
    """
    require_extra("train", NEEDED)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise UsageError(f"tf2onnx needs Keras on TensorFlow, but KERAS_BACKEND is {backend!r}. Unset it.")
    with _stderr_held_back():
        tensorflow = importlib.import_module("tensorflow")
        importlib.import_module("keras")
        tensorflow.config.list_physical_devices()


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
