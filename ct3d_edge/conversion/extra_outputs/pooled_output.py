"""The graph output `ct3d.pooled`: the pooled features, from which out-of-distribution scans are detected."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.errors import CheckFailedError, ContractError, ModelError
from ct3d_edge.gradcam.graph_trace import POOLING_OPS, find_global_pooling
from ct3d_edge.keras_backend import with_pooled_features
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.modelfile.signature import POOLED_OUTPUT
from ct3d_edge.quality_control.domain_shift import MahalanobisOOD
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs
from ct3d_edge.session.runner import Runner

if TYPE_CHECKING:
    from ct3d_edge.conversion.graph_variant import GraphVariant
    from ct3d_edge.conversion.keras_loader import KerasSource

LOGGER = logging.getLogger(__name__)

FEATURE_RTOL = 1e-4
"""Largest difference of a feature between the converted network and Keras, as a part of the largest feature."""

SHAPE_INITIALIZER = f"{POOLED_OUTPUT}.shape"

PooledOutputFn = Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""A network input ``contract.shape`` to pooled features ``(C,)`` and probabilities ``(classes,)``."""


def make_keras_pooled_fn(source: "KerasSource") -> PooledOutputFn | None:
    """Keras's pooled features and probabilities of one volume; None if the network pools no features."""
    network = with_pooled_features(source.network)
    if network is None:
        return None

    def compute(volume: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        import keras

        batch = volume.reshape(1, *source.contract.input_shape)
        pooled, output = (keras.ops.convert_to_numpy(part) for part in network(batch, training=False))
        return np.asarray(pooled[0], np.float64), source.postprocess(output)

    return compute


def add_checked_pooled_output(proto: onnx.ModelProto, source: "KerasSource") -> tuple[onnx.ModelProto, Contract]:
    """Add the output to a converted graph and check it; where its tensor is ambiguous, drop the contract's statistics.

    Raises
    ------
    ContractError
        If the contract holds statistics of features that the network does not pool.
    CheckFailedError
        As `check_converted_features`.
    """
    statistics = source.contract.feature_statistics
    try:
        given = add_pooled_output(proto, source.contract)
    except ContractError:
        network = with_pooled_features(source.network)
        if statistics is None or network is None or network.outputs[0].shape[-1] != statistics.features:
            raise
        LOGGER.warning(
            "Several nodes of the converted network may pool its features: the file has no output for them, and scans "
            "are not checked for being out of distribution."
        )
        return proto, replace(source.contract, feature_statistics=None)
    check_converted_features(given, source)
    return given, source.contract


def add_pooled_output(proto: onnx.ModelProto, contract: Contract) -> onnx.ModelProto:
    """A copy of a graph with the output ``(batch, C)``; the graph as it is if the contract has no feature statistics.

    To be called before passes run: they preserve outputs, and the parity check compares this one with the others.

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
        pooled = _find_pooled_tensor(given)
    except ModelError as error:
        raise ContractError(
            "The contract holds feature statistics, those of the output of a global average pooling in front of dense "
            "layers; this network has none. Contract and network do not belong together."
        ) from error
    given.graph.initializer.append(numpy_helper.from_array(np.array([0, statistics.features]), SHAPE_INITIALIZER))
    given.graph.node.append(
        helper.make_node("Reshape", [pooled, SHAPE_INITIALIZER], [POOLED_OUTPUT], name=POOLED_OUTPUT)
    )
    given.graph.output.append(
        helper.make_tensor_value_info(POOLED_OUTPUT, onnx.TensorProto.FLOAT, ["batch", statistics.features])
    )
    return given


def _find_pooled_tensor(proto: onnx.ModelProto) -> str:
    """Output of the network's global pooling, or of the only pooling in the graph if its head cannot be read."""
    try:
        return find_global_pooling(proto, proto.graph.output[0].name).pooled
    except ModelError:
        given = [str(node.output[0]) for node in proto.graph.node if node.op_type in POOLING_OPS]
        if len(given) != 1:
            raise
        return given[0]


def check_converted_features(proto: onnx.ModelProto, source: "KerasSource") -> None:
    """Check that a converted graph gives the features of Keras, on which the statistics were fitted.

    Raises
    ------
    ContractError
        If Keras pools none, or another number of them.
    CheckFailedError
        If they differ.
    """
    statistics, compute = source.contract.feature_statistics, make_keras_pooled_fn(source)
    if statistics is None:
        return
    volume = make_phantom_volume(1, source.contract.shape)
    expected = compute(volume)[0] if compute else np.zeros(0)
    if expected.shape != (statistics.features,):
        raise ContractError(
            f"The contract holds statistics of {statistics.features} features; the network beside it pools "
            f"{len(expected)}. They do not belong together."
        )
    batch = volume.reshape(1, *source.contract.input_shape)
    ((_, found),) = IntermediateOutputs(proto, [POOLED_OUTPUT]).tensors(batch)
    difference = _relative_difference(found[0], expected)
    if not difference <= FEATURE_RTOL:
        raise CheckFailedError(
            f"The features that the converted network pools differ from Keras's by {difference:.1e} of the largest "
            f"(limit {FEATURE_RTOL:.0e}). No file was written."
        )


def check_feature_parity(
    variant: "GraphVariant", runners: Sequence[Runner], volumes: Sequence[NDArray[np.float32]]
) -> dict[str, Any]:
    """Compare the pooled features of files, each run as `infer` runs it, with those before the rewriting.

    Parameters
    ----------
    runners
        One of each file and provider.
    volumes
        Network inputs ``contract.shape``.

    Returns
    -------
    dict
        For the provenance: largest difference of a feature as a part of the largest one, and by which part of the
        threshold distances moved; empty for files without such features.

    Raises
    ------
    CheckFailedError
        A feature differs by more than the limit of the precision for tensors.
    """
    given = [runner for runner in runners if runner.model.pooled is not None]
    known = given[0].contract.feature_statistics if given else None
    if known is None:
        return {}
    tap, distances = IntermediateOutputs(variant.fp32, [POOLED_OUTPUT]), MahalanobisOOD(known).distances
    feature, moved = 0.0, 0.0
    for volume in volumes:
        ((_, right),) = tap.tensors(volume.reshape(1, *given[0].contract.input_shape))
        for runner in given:
            found = np.asarray(runner.outputs(volume[None]).pooled)
            feature = max(
                feature, _require_within(_relative_difference(found, right), variant.tolerance.tensor, runner)
            )
            moved = max(moved, float(np.abs(distances(found) - distances(right)).max()) / known.threshold)
    return {"pooled_features": {"volumes": len(volumes), "feature_difference": feature, "distance_difference": moved}}


def _require_within(difference: float, limit: float, runner: Runner) -> float:
    if difference <= limit:
        return difference
    raise CheckFailedError(
        f"Pooled features on {runner.run_report.actual} differ by {difference:.1e} of the largest from those before "
        f"the rewriting (limit {limit:.0e}). No file was written."
    )


def _relative_difference(found: NDArray[np.floating[Any]], right: NDArray[np.floating[Any]]) -> float:
    return float(np.abs(found - right).max() / max(np.abs(right).max(), np.finfo(np.float32).tiny))
