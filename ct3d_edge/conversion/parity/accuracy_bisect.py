"""Which step makes a compiled file give other probabilities: a Keras layer, a pass and its node, or a precision."""

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
from ct3d_edge.conversion.graph_variant import CompileOptions, GraphVariant
from ct3d_edge.conversion.parity.tensor_parity import OpenIntermediateOutputs, compare_tensors
from ct3d_edge.conversion.passes.pipeline import Pass, run_passes, select_passes
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRule
from ct3d_edge.conversion.precision.tolerances import PRECISION_TOLERANCES
from ct3d_edge.errors import ModelError
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs
from ct3d_edge.session.runner import to_probabilities

if TYPE_CHECKING:
    import keras

Volume = NDArray[np.float32]
FindFaultyLayer = Callable[[Volume], str]
"""A network input to the layer whose conversion makes a difference, in words; empty if none does."""


MAX_SEARCH_SECONDS = 60.0
"""A step of a search converts or rewrites a network and runs it, which takes seconds for a large one."""

SEARCH_STOPPED = f"the search ended after {MAX_SEARCH_SECONDS:.0f} s"

ROUNDING = 1e-3
"""Part of a layer's largest magnitude that arithmetic in another order explains."""


@dataclass(frozen=True, eq=False)
class CompileHistory:
    """How a graph came about.

    Parameters
    ----------
    original
        Before any pass.
    options
        What was asked of the passes.
    variant
        What came of it.
    contract
        Of the network.
    find_layer
        Looks into the conversion from Keras, where there was one.
    """

    source_graph: onnx.ModelProto
    options: CompileOptions
    variant: GraphVariant
    contract: Contract
    find_layer: FindFaultyLayer = lambda _: ""


@dataclass(frozen=True, eq=False)
class ParityFailure:
    """Where a parity check failed.

    Parameters
    ----------
    volume
        ``contract.shape`` float32, on which it is furthest off.
    provider
        On which it failed.
    simulated
        Whether float32 arithmetic stood in for float16.
    """

    volume: Volume
    provider: ProviderName = "cpu"
    simulated: bool = False


@dataclass(frozen=True, eq=False)
class _FailingCase:
    """One volume, its right answer, and the sessions that are asked for it."""

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
    """Name the first step that takes the answer to one volume away from ``expected``, by more than ``limit``.

    A step is to blame for at least half of the whole difference: rounding that came before it is not.

    Parameters
    ----------
    expected
        ``(classes,)`` probabilities of the reference.
    failure
        Which volume, and on which provider: there every graph runs.
    open_outputs
        Opens a session for a graph; on the failure's provider if None.

    Returns
    -------
    str
        A sentence. Where no step is beyond the limit alone, it names the tensor that is furthest off.
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
    return select_passes(options.level, options.target, options.max_memory, winograd_axes=options.winograd_axes)


def _locate_in_conversion(history: CompileHistory, case: _FailingCase, failure: ParityFailure, limit: float) -> str:
    """Either the conversion is wrong everywhere, or the provider computes what the CPU computes right."""
    if (
        failure.provider == "cpu"
        or not replace(case, open_outputs=IntermediateOutputs).difference(history.source_graph) <= limit
    ):
        layer = history.find_layer(failure.volume)
        return f"The difference is there before any pass: it comes from the conversion{layer and f', at {layer}'}."
    sentence = _locate_tensor(history.source_graph, history.source_graph, case, PRECISION_TOLERANCES["fp32"].tensor)
    return (
        f"The difference is there before any pass, on {failure.provider} alone: it computes the converted graph "
        f"otherwise than the CPU does. {sentence}"
    )


def _locate_tensor(right: onnx.ModelProto, found: onnx.ModelProto, case: _FailingCase, limit: float) -> str:
    """Where a graph leaves the one that it should follow, which runs on the CPU, by the tensors that both have."""
    level = compare_tensors(right, found, [case.batch], limit=limit, open_outputs=case.open_outputs)
    if level.first is not None:
        return (
            f"The first tensor beyond {level.limit:.0e} of its range is that of node {level.first.node}, "
            f"off by {level.first.largest:.1e}."
        )
    return (
        f"No step is beyond its limit alone; the node furthest off is {level.worst.node}, by {level.worst.largest:.1e}."
    )


def _bisect_rewrites(before: onnx.ModelProto, planned: Pass, within: Callable[[onnx.ModelProto], bool]) -> str:
    """Bisect a pass: the fewest rewrites after which the answer is off, and the node that the last one replaced."""
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
    """Run a pass that stops after so many rewrites, and write down each one."""
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


def find_faulty_layer(network: "keras.Model", contract: Contract, volume: Volume) -> str:
    """Bisect the layers in their order: the first up to which the network is converted to something else.

    Returns
    -------
    str
        ``layer NAME (kind)``, or the first and last of those that are left after `MAX_SEARCH_SECONDS`; an empty text
        if every part answers alike, or the layers cannot be taken apart.
    """
    import keras

    layers = [layer for layer in network.layers if not isinstance(layer, keras.layers.InputLayer)]
    good, bad = _bisect(-1, len(layers), lambda number: _converts_well(network, layers[number], contract, volume))
    if bad - good > 1:
        first, last = layers[good + 1].name, layers[min(bad, len(layers) - 1)].name
        return f"one of the layers from {first} to {last} ({SEARCH_STOPPED})"
    return f"layer {layers[bad].name} ({type(layers[bad]).__name__})" if bad < len(layers) else ""


def _converts_well(network: "keras.Model", layer: Any, contract: Contract, volume: Volume) -> bool:
    import keras

    from ct3d_edge.conversion.keras_to_onnx import convert_to_onnx

    batch = volume.reshape(1, *contract.input_shape)
    try:
        part = keras.Model(network.inputs[0], layer.output)
        proto = convert_to_onnx(part, contract)
    except (ModelError, ValueError, AttributeError):  # a layer with several outputs or uses
        return True
    right = np.asarray(keras.ops.convert_to_numpy(part(batch, training=False)), np.float32)
    ((_, found),) = IntermediateOutputs(proto, [proto.graph.output[0].name]).tensors(batch)
    return bool(np.abs(found - right).max() <= ROUNDING * max(float(np.abs(right).max()), 1.0))
