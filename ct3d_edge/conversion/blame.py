"""Which step, and which node, makes a file answer differently: asked only when a proof has failed."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.passes.pipeline import Pass, apply, passes_for
from ct3d_edge.conversion.passes.rule import Rewrite, Rule
from ct3d_edge.conversion.plan import Plan
from ct3d_edge.conversion.tensors import compare_tensors
from ct3d_edge.conversion.variant import Variant
from ct3d_edge.runtime import Tap, to_probabilities

Volume = NDArray[np.float32]
FindLayer = Callable[[Volume], str]
"""A network input to the layer whose conversion makes a difference, in words; empty if none does."""


@dataclass(frozen=True, eq=False)
class History:
    """How a graph came about.

    Parameters
    ----------
    original
        Before any pass.
    plan
        What was asked of the passes.
    variant
        What came of it.
    contract
        Of the network.
    find_layer
        Looks into the conversion from Keras, where there was one.
    """

    original: onnx.ModelProto
    plan: Plan
    variant: Variant
    contract: Contract
    find_layer: FindLayer = lambda _: ""


def blame(history: History, expected: NDArray[np.float64], volume: Volume, limit: float) -> str:
    """Name the first step that takes the answer to one volume away from ``expected``, by more than ``limit``.

    A step is to blame for at least half of the whole difference: rounding that came before it is not.

    Parameters
    ----------
    expected
        ``(classes,)`` probabilities of the reference.
    volume
        ``contract.shape`` float32.

    Returns
    -------
    str
        A sentence. Where no step is beyond the limit alone, it names the tensor that is furthest off.
    """
    contract = history.contract
    whole = _difference(history.variant.observed, contract, volume, expected)
    limit = max(limit, whole / 2)  # a NaN leaves the limit as it is
    if not _difference(history.original, contract, volume, expected) <= limit:
        layer = history.find_layer(volume)
        return f"The difference is there before any pass: it comes from the conversion{layer and f', at {layer}'}."
    passes = _passes(history)
    for number, planned in enumerate(passes):
        rewritten = apply(history.original, passes[: number + 1]).proto
        if not _difference(rewritten, contract, volume, expected) <= limit:
            before = apply(history.original, passes[:number]).proto if number else history.original
            node = _rewrite_to_blame(before, planned, lambda proto: _within(proto, contract, volume, expected, limit))
            return f"It comes from the pass {planned.name}, {node}."
    return _tensor_to_blame(history, volume)


def _passes(history: History) -> tuple[Pass, ...]:
    plan = history.plan
    return passes_for(plan.level, plan.target, plan.memory_budget, filtering=plan.filtering)


def _tensor_to_blame(history: History, volume: Volume) -> str:
    """Where the graph in its final numbers leaves the one before, by the tensors that both have."""
    variant = history.variant
    batch = volume.reshape(1, *history.contract.input_shape)
    level = compare_tensors(variant.before, variant.observed, [batch], limit=variant.limits.tensor)
    if level.first is not None:
        return (
            f"The first tensor beyond {level.limit:.0e} of its range is that of node {level.first.node}, "
            f"off by {level.first.largest:.1e}."
        )
    return (
        f"No step is beyond its limit alone; the node furthest off is {level.worst.node}, by {level.worst.largest:.1e}."
    )


def _rewrite_to_blame(before: onnx.ModelProto, planned: Pass, within: Callable[[onnx.ModelProto], bool]) -> str:
    """Bisect a pass: the fewest rewrites after which the answer is off, and the node that the last one replaced."""
    log: list[str] = []
    _apply_first(before, planned, None, log)
    good, bad = 0, len(log)
    while bad - good > 1:
        middle = (good + bad) // 2
        if within(_apply_first(before, planned, middle, [])):
            good = middle
        else:
            bad = middle
    return f"rewrite {bad} of {len(log)}: {log[bad - 1]}"


def _apply_first(before: onnx.ModelProto, planned: Pass, count: int | None, log: list[str]) -> onnx.ModelProto:
    """Run a pass that stops after so many rewrites, and write down each one."""
    rules = tuple(replace(rule, check=_counted(rule, count, log)) for rule in planned.rules)
    return apply(before, [replace(planned, rules=rules)], strict=True).proto


def _counted(rule: Rule, count: int | None, log: list[str]) -> Callable[[ir.Node], Rewrite | None]:
    def check(node: ir.Node) -> Rewrite | None:
        if count is not None and len(log) >= count:
            return None
        rewrite = rule.check(node)
        if rewrite:
            log.append(f"{rule.name} at node {node.op_type} {node.name}")
        return rewrite

    return check


def _within(
    proto: onnx.ModelProto, contract: Contract, volume: Volume, expected: NDArray[np.float64], limit: float
) -> bool:
    return _difference(proto, contract, volume, expected) <= limit


def _difference(proto: onnx.ModelProto, contract: Contract, volume: Volume, expected: NDArray[np.float64]) -> float:
    name = proto.graph.output[0].name
    ((_, output),) = Tap(proto, [name]).tensors(volume.reshape(1, *contract.input_shape))
    return float(np.abs(to_probabilities(output, contract)[0] - expected).max())
