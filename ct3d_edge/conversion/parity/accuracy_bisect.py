"""Bisect a failed parity check: the Keras layer, the pass and its node, or the precision that causes the difference."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.converter import Converter, load_converter
from ct3d_edge.conversion.graph_variant import CompileOptions, GraphVariant
from ct3d_edge.conversion.parity.tensor_parity import OpenIntermediateOutputs, compare_tensors
from ct3d_edge.conversion.passes.lower_conv3d.filter_plan import plan_filtering
from ct3d_edge.conversion.passes.pass_runner import Pass, run_passes
from ct3d_edge.conversion.passes.pipeline import select_passes
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRule
from ct3d_edge.conversion.passes.validate_graph import validate_graph
from ct3d_edge.conversion.precision.tolerances import PRECISION_TOLERANCES
from ct3d_edge.errors import ModelError
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs
from ct3d_edge.temperature_scaling import to_probabilities

if TYPE_CHECKING:
    import keras

Volume = NDArray[np.float32]
FindFaultyLayer = Callable[[Volume], str]
"""Names the layer whose conversion causes a difference on a network input; an empty text if none does."""


MAX_SEARCH_SECONDS = 60.0
"""A step of a search converts or rewrites a network and runs it, which takes seconds for a large one."""

SEARCH_STOPPED = f"the search ended after {MAX_SEARCH_SECONDS:.0f} s"

ROUNDING = 1e-3
"""Difference, relative to a layer's largest magnitude, that another order of additions explains."""


@dataclass(frozen=True, eq=False)
class CompileHistory:
    """The steps from a converted graph to a compiled one.

    Parameters
    ----------
    source_graph
        The graph before any pass.
    options
        Options of the passes.
    variant
        The compiled graph.
    contract
        Contract of the network.
    find_layer
        Finds the layer that was converted wrongly, of a graph converted from Keras.
    """

    source_graph: onnx.ModelProto
    options: CompileOptions
    variant: GraphVariant
    contract: Contract
    find_layer: FindFaultyLayer = lambda _: ""


@dataclass(frozen=True, eq=False)
class ParityFailure:
    """The volume and provider of a failed parity check.

    Parameters
    ----------
    volume
        The network input with the largest difference, ``contract.shape`` float32.
    provider
        Provider on which the check failed.
    simulated
        Whether float16 was simulated in float32.
    """

    volume: Volume
    provider: ProviderName = "cpu"
    simulated: bool = False


@dataclass(frozen=True, eq=False)
class _FailingCase:
    """One volume, its expected probabilities, and what opens sessions on the failing provider."""

    contract: Contract
    volume: Volume
    expected: NDArray[np.float64]
    open_outputs: OpenIntermediateOutputs

    @property
    def batch(self) -> Volume:
        return self.volume.reshape(1, *self.contract.input_shape)

    def difference(self, proto: onnx.ModelProto) -> float:
        """Largest difference of a probability."""
        name = proto.graph.output[0].name
        ((_, output),) = self.open_outputs(proto, [name]).tensors(self.batch)
        return float(np.abs(to_probabilities(output, self.contract)[0] - self.expected).max())


def bisect_failure(
    history: CompileHistory,
    expected: NDArray[np.float64],
    failure: ParityFailure,
    limit: float,
    open_outputs: OpenIntermediateOutputs | None = None,
) -> str:
    """Name the first step after which the probabilities of one volume differ from ``expected`` by more than ``limit``.

    Less than half of the whole difference counts as rounding, which is not the cause.

    Parameters
    ----------
    expected
        ``(classes,)`` probabilities of the reference.
    failure
        The volume, and the provider on which every graph is run.
    open_outputs
        Opens a session for a graph; on the failure's provider if None.

    Returns
    -------
    str
        A sentence. Where no single step is beyond the limit, it names the tensor with the largest difference.
    """
    case = _FailingCase(
        history.contract, failure.volume, expected, open_outputs or partial(IntermediateOutputs, on=failure.provider)
    )
    found = history.variant.debug_graph if failure.simulated else history.variant.proto
    limit = max(limit, case.difference(found) / 2)  # a NaN leaves the limit as it is
    if not case.difference(history.source_graph) <= limit:
        return _locate_in_conversion(history, case, failure, limit)
    before = history.source_graph
    for planned in _passes(history):
        rewritten = run_passes(before, [planned]).proto
        if not case.difference(rewritten) <= limit:
            rewrite = _bisect_rewrites(before, planned, lambda proto: case.difference(proto) <= limit)
            return f"It comes from the pass {planned.name}, {rewrite}."
        before = rewritten
    return _locate_tensor(history.variant.fp32, found, case, history.variant.tolerance.tensor)


def _passes(history: CompileHistory) -> tuple[Pass, ...]:
    options = history.options
    return select_passes(
        options.level,
        options.target,
        options.max_memory,
        winograd_axes=options.winograd_axes,
        plan=plan_filtering(validate_graph(history.source_graph)),
    )


def _locate_in_conversion(history: CompileHistory, case: _FailingCase, failure: ParityFailure, limit: float) -> str:
    """The conversion is wrong on every provider, or this provider computes the converted graph wrongly."""
    if (
        failure.provider == "cpu"
        or not replace(case, open_outputs=IntermediateOutputs).difference(history.source_graph) <= limit
    ):
        layer = history.find_layer(failure.volume)
        return f"The difference is there before any pass: it comes from the conversion{layer and f', at {layer}'}."
    sentence = _locate_tensor(history.source_graph, history.source_graph, case, PRECISION_TOLERANCES["fp32"].tensor)
    return (
        f"The difference is there before any pass, on {failure.provider} alone: it computes the converted graph "
        f"differently from the CPU. {sentence}"
    )


def _locate_tensor(right: onnx.ModelProto, found: onnx.ModelProto, case: _FailingCase, limit: float) -> str:
    """The first tensor of a graph that differs from the reference, which runs on the CPU."""
    level = compare_tensors(right, found, [case.batch], limit=limit, open_outputs=case.open_outputs)
    if level.first is not None:
        return (
            f"The first tensor beyond {level.limit:.0e} of its range is that of node {level.first.node}, "
            f"which differs by {level.first.largest:.1e}."
        )
    return (
        f"No single step is beyond its limit; the largest difference is that of node {level.worst.node}, "
        f"{level.worst.largest:.1e}."
    )


def _bisect_rewrites(before: onnx.ModelProto, planned: Pass, within: Callable[[onnx.ModelProto], bool]) -> str:
    """Bisect a pass: the fewest rewrites after which the probabilities differ, and the node of the last one."""
    log: list[str] = []
    _apply_first_rewrites(before, planned, None, log)
    good, bad = _bisect(0, len(log), lambda count: within(_apply_first_rewrites(before, planned, count, [])))
    if bad - good > 1:
        return f"one of the rewrites {good + 1} to {bad} of {len(log)} ({SEARCH_STOPPED})"
    return f"rewrite {bad} of {len(log)}: {log[bad - 1]}"


def _bisect(good: int, bad: int, is_good: Callable[[int], bool]) -> tuple[int, int]:
    """Narrow down where ``is_good`` changes, for `MAX_SEARCH_SECONDS` at most; ``bad - good`` is 1 in the end."""
    deadline = time.monotonic() + MAX_SEARCH_SECONDS
    while bad - good > 1 and time.monotonic() < deadline:
        middle = (good + bad) // 2
        if is_good(middle):
            good = middle
        else:
            bad = middle
    return good, bad


def _apply_first_rewrites(before: onnx.ModelProto, planned: Pass, count: int | None, log: list[str]) -> onnx.ModelProto:
    """Run a pass that stops after ``count`` rewrites, and log each one."""
    rules = tuple(replace(rule, check=_limit_rewrites(rule, count, log)) for rule in planned.rules)
    return run_passes(before, [replace(planned, rules=rules)], strict=True).proto


def _limit_rewrites(rule: RewriteRule, count: int | None, log: list[str]) -> Callable[[ir.Node], RewriteFn | None]:
    def check(node: ir.Node) -> RewriteFn | None:
        if count is not None and len(log) >= count:
            return None
        rewrite = rule.check(node)
        if rewrite:
            log.append(f"{rule.name} at node {node.op_type} {node.name}")
        return rewrite

    return check


def find_faulty_layer(
    network: "keras.Model", contract: Contract, volume: Volume, converter: Converter = "tf2onnx"
) -> str:
    """Bisect the layers in their order: the first one up to which the converted network differs.

    Returns
    -------
    str
        ``layer NAME (kind)``, or the first and last of those that are left after `MAX_SEARCH_SECONDS`; an empty text
        if no part differs, or the layers cannot be separated.
    """
    import keras

    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    good, bad = _bisect(
        -1, len(layers), lambda number: _converts_well(network, layers[number], contract, volume, converter)
    )
    if bad - good > 1:
        first, last = layers[good + 1].name, layers[min(bad, len(layers) - 1)].name
        return f"one of the layers from {first} to {last} ({SEARCH_STOPPED})"
    return f"layer {layers[bad].name} ({type(layers[bad]).__name__})" if bad < len(layers) else ""


def _converts_well(
    network: "keras.Model", layer: Any, contract: Contract, volume: Volume, converter: Converter
) -> bool:
    import keras

    batch = volume.reshape(1, *contract.input_shape)
    try:
        part = keras.Model(network.inputs[0], layer.output)
        proto = load_converter(converter)(part, contract)
    except (ModelError, ValueError, AttributeError):  # a layer with several outputs or uses
        return True
    right = np.asarray(keras.ops.convert_to_numpy(part(batch, training=False)), np.float32)
    ((_, found),) = IntermediateOutputs(proto, [proto.graph.output[0].name]).tensors(batch)
    return bool(np.abs(found - right).max() <= ROUNDING * max(float(np.abs(right).max()), 1.0))
