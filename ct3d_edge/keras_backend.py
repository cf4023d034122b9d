"""Keras on TensorFlow: imported on demand, its pooled features, and graph mode checked against eager mode.

TensorFlow 2.21 with oneDNN, its default on x86, fuses a convolution, its bias, an addition and LeakyReLU in graph mode,
and loses the slope: ``model.predict``, ``fit`` and ``evaluate`` then compute another network than ``model(x)``.
Switching the graph optimizer's remapper off cures it.
"""

import importlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ct3d_edge.errors import ModelError, UsageError
from ct3d_edge.extras import require_extra

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REQUIRED_MODULES = ("keras", "tensorflow", "tf2onnx")
"""What the extra `train` brings; an export with `converter=direct` does without tf2onnx."""

KERAS_MODULES = ("keras", "tensorflow")


def import_keras(modules: Sequence[str] | None = None) -> None:
    """Import Keras on TensorFlow and let TensorFlow look for devices, which is when it prints.

    To be called before anything from the packages ``training`` and ``conversion`` is imported.

    Parameters
    ----------
    modules
        Modules that must be installed; `REQUIRED_MODULES` if None.

    Raises
    ------
    MissingExtraError
        If one of them is not installed.
    UsageError
        If the environment asks for another Keras backend.
    """
    require_extra("train", REQUIRED_MODULES if modules is None else modules)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise UsageError(f"tf2onnx needs Keras on TensorFlow, but KERAS_BACKEND is {backend!r}. Unset it.")
    with _capture_stderr():
        tensorflow = importlib.import_module("tensorflow")
        importlib.import_module("keras")
        tensorflow.config.list_physical_devices()


@contextmanager
def _capture_stderr() -> Iterator[None]:
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


_INNER_ERROR = re.compile(r"Exception encountered(?:: |.*\n\n)")
_TERMINAL_COLOUR = re.compile(r"\x1b\[\d*m")


def keras_reason(error: BaseException) -> str:
    """What an error of Keras says in one line, for its messages wrap the reason in the names of functions and settings.

    The line behind the last ``Exception encountered``, without the settings of the layer; else the first line.
    """
    innermost = _INNER_ERROR.split(_TERMINAL_COLOUR.sub("", str(error)))[-1]
    lines = innermost.partition(" Full object config:")[0].strip().splitlines()
    return lines[0] if lines else type(error).__name__


def with_pooled_features(network: Any) -> Any | None:
    """A Keras model with two outputs: the global average pooling, ``(N, C)``, and the network's output.

    Weights are shared with ``network``. None if it does not pool in that way, so that there are no such features.
    """
    import keras

    pooled = [layer.output for layer in network.layers if isinstance(layer, keras.layers.GlobalAveragePooling3D)]
    if len(pooled) != 1 or len(pooled[0].shape) != 2:
        return None
    return keras.Model(network.inputs[0], [pooled[0], network.outputs[0]])


MAX_DIFFERENCE = 1e-5
"""Of the largest output, by which the modes may differ in float32; in half precision the sums are rounded otherwise."""

MAX_DIFFERENCE_FP16 = 1e-2
DYNAMIC_AXIS_SIZE = 32
"""Voxels along an axis whose size a network leaves open."""

REMAPPER_WARNING = (
    "TensorFlow's graph mode gave other outputs for this network than its layers do (by {:.2g}); its remapper was "
    "switched off. Outside ct3d-edge set TF_ENABLE_ONEDNN_OPTS=0 before model.predict is trusted."
)


def require_graph_mode(network: Any) -> str | None:
    """Compare both modes on one random input; where they differ, switch the remapper off for the whole process.

    Functions that Keras traced before keep their fusions: call this before ``fit`` or ``predict``.

    Returns
    -------
    str or None
        A sentence if the remapper was at fault.

    Raises
    ------
    ModelError
        If the modes differ for another reason.
    """
    import tensorflow as tf

    probe = _make_probe([size or DYNAMIC_AXIS_SIZE for size in network.inputs[0].shape[1:]])
    expected = _first_output(network(probe, training=False))
    limit = _difference_limit(network, expected)
    apart = _difference(_traced(network), probe, expected)
    if apart <= limit:
        return None
    tf.config.optimizer.set_experimental_options({"remapping": False})
    if _difference(_traced(network), probe, expected) <= limit:
        return REMAPPER_WARNING.format(apart)
    raise ModelError(
        "Keras computes another network in graph mode than in eager mode: on a random input the outputs differ by "
        f"{apart:.2g} (limit {limit:.1g}). Results of model.predict and fit cannot be relied on. Try "
        "TF_ENABLE_ONEDNN_OPTS=0 or another version of TensorFlow."
    )


def graph_if_equal(network: Any, shape: Sequence[int]) -> Callable[[Any], Any]:
    """Call a network in inference mode as a graph, about twice as fast, if both modes agree on one random input.

    Parameters
    ----------
    shape
        Of a batch of inputs.
    """
    probe = _make_probe(shape[1:])
    expected = _first_output(network(probe, training=False))
    traced = _traced(network)
    if _difference(traced, probe, expected) <= _difference_limit(network, expected):
        return traced
    return partial(network, training=False)


def _traced(network: Any) -> Callable[[Any], Any]:
    import tensorflow as tf

    function: Callable[[Any], Any] = tf.function(lambda batch: network(batch, training=False), reduce_retracing=True)
    return lambda batch: function(tf.constant(batch))


def _make_probe(shape: Sequence[int]) -> "NDArray[np.float32]":
    """One network input, in [0, 1] as contracts scale them."""
    import numpy as np

    return np.random.default_rng(0).random((1, *shape), np.float32)


def _difference_limit(network: Any, expected: "NDArray[np.float64]") -> float:
    import numpy as np

    share = MAX_DIFFERENCE if network.dtype_policy.compute_dtype == "float32" else MAX_DIFFERENCE_FP16
    return share * max(1.0, float(np.abs(expected).max()))


def _difference(traced: Callable[[Any], Any], probe: "NDArray[np.float32]", expected: "NDArray[np.float64]") -> float:
    import numpy as np

    found = _first_output(traced(probe))
    return float(np.abs(found - expected).max()) if np.isfinite(expected).all() else 0.0


def _first_output(output: Any) -> "NDArray[np.float64]":
    import numpy as np

    return np.asarray(output, np.float64)
