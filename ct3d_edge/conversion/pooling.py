"""A graph gets the features that its network pools as one more output: what tells whether a scan is like training's."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ContractError, GateError, ModelError
from ct3d_edge.explain import find_pooling
from ct3d_edge.keras_pooling import with_pooled_features
from ct3d_edge.runtime import POOLED, Tap, golden_volume

if TYPE_CHECKING:
    from ct3d_edge.conversion.source import Source

TOLERANCE = 1e-4
"""Of the largest feature: how far the converted network's may be from Keras's."""

SHAPE = f"{POOLED}.shape"

Pooled = Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""A network input ``contract.shape`` to pooled features ``(C,)`` and probabilities ``(classes,)``."""


def pooled_of(source: "Source") -> Pooled | None:
    """What Keras computes of one volume; None if the network pools no features."""
    network = with_pooled_features(source.network)
    if network is None:
        return None

    def compute(volume: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        import keras

        batch = volume.reshape(1, *source.contract.input_shape)
        pooled, answer = (keras.ops.convert_to_numpy(part) for part in network(batch, training=False))
        return np.asarray(pooled[0], np.float64), source.concluded(answer)

    return compute


def with_pooled(proto: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """A copy of a graph with the output ``(batch, C)``; the graph as it is if the contract holds no statistics of it.

    To be called before passes run, so that they take it for something that callers want to see: it is proven like
    every other tensor that a rewritten graph shares with the one that it was made from.

    Raises
    ------
    ContractError
        If the network pools no features.
    """
    statistics = contract.feature_statistics
    if statistics is None:
        return proto
    given = onnx.ModelProto()
    given.CopyFrom(proto)
    try:
        pooled = find_pooling(given, given.graph.output[0].name).pooled
    except ModelError as error:
        raise ContractError(
            "The contract holds statistics of features, which are what a global average pooling in front of dense "
            "layers gives; this network has none. They do not belong together."
        ) from error
    given.graph.initializer.append(numpy_helper.from_array(np.array([0, statistics.features]), SHAPE))
    given.graph.node.append(helper.make_node("Reshape", [pooled, SHAPE], [POOLED], name=POOLED))
    given.graph.output.append(
        helper.make_tensor_value_info(POOLED, onnx.TensorProto.FLOAT, ["batch", statistics.features])
    )
    return given


def require_same_features(proto: onnx.ModelProto, source: "Source") -> None:
    """Make sure that a converted graph gives the features that Keras pools, which the statistics were fitted on.

    Raises
    ------
    ContractError
        If Keras pools none, or another number of them.
    GateError
        If they differ.
    """
    statistics, compute = source.contract.feature_statistics, pooled_of(source)
    if statistics is None:
        return
    volume = golden_volume(1, source.contract.shape)
    expected = compute(volume)[0] if compute else np.zeros(0)
    if expected.shape != (statistics.features,):
        raise ContractError(
            f"The contract holds statistics of {statistics.features} features; the network beside it pools "
            f"{len(expected)}. They do not belong together."
        )
    batch = volume.reshape(1, *source.contract.input_shape)
    ((_, found),) = Tap(proto, [POOLED]).tensors(batch)
    difference = float(np.abs(found[0] - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny))
    if not difference <= TOLERANCE:
        raise GateError(
            f"The features that the converted network pools differ from Keras's by {difference:.1e} of the largest "
            f"(limit {TOLERANCE:.0e}). No file was written."
        )
