"""Rewrite rules: each checks one node at a time, and rewrites it or gives the reason why not."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common


def infer_shapes(model: ir.Model) -> ir.Model:
    """Infer the shapes that follow from the inputs; others stay unknown."""
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    return model


def reinfer_shapes(model: ir.Model) -> ir.Model:
    """Infer all shapes anew, where constants or windows became known that change earlier ones."""
    values = [value for node in model.graph for value in node.outputs]
    earlier = [value.shape for value in values]
    for value in values:
        value.shape = None
    infer_shapes(model)
    for value, shape in zip(values, earlier, strict=True):
        if value.shape is None:  # not to be inferred: what the file says still holds
            value.shape = shape
    return model


def cleanup(model: ir.Model) -> ir.Model:
    """Remove what nothing uses, store equal constants once, and put nodes in order; shapes stay as they are."""
    ir.passes.Sequential(
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.DeduplicateHashedInitializersPass(),
        common.TopologicalSortPass(),
    )(model)
    return model


RewriteFn = Callable[[], None]
"""Changes the graph. It is made by a check that has tested all conditions, so it cannot fail half way."""

MAX_SWEEPS = 64
"""Sweeps after which rules count as endless: chains of rewrites end after about the depth of the network."""


class RewriteRefused(Exception):
    """A rule is meant for a node, and a condition does not hold; the message gives the reason."""


@dataclass(frozen=True)
class RewriteRule:
    """One rewrite.

    Parameters
    ----------
    name
        For reports.
    operators
        Operator types of the nodes that it checks.
    check
        Returns the rewrite of a node, or None if the rule is not meant for it.
        Raises `RewriteRefused` if it is and a condition does not hold.
    """

    name: str
    operators: frozenset[str]
    check: Callable[[ir.Node], RewriteFn | None]


@dataclass(frozen=True)
class RefusedNode:
    """A node that a rule was meant for and did not rewrite, and the reason."""

    node: str
    reason: str


def apply_rules(rules: Sequence[RewriteRule], model: ir.Model) -> tuple[int, tuple[RefusedNode, ...]]:
    """Apply rules to every node of the given model until none applies.

    Returns
    -------
    tuple
        Number of rewrites, and the refusals of the last sweep.

    Raises
    ------
    RuntimeError
        The rules undo each other.
    """
    rewrites = 0
    for _ in range(MAX_SWEEPS):
        changed, refusals = _sweep_once(rules, list(model.graph))
        rewrites += changed
        if not changed:
            return rewrites, tuple(refusals)
        infer_shapes(model)
    raise RuntimeError(f"{', '.join(rule.name for rule in rules)}: no end after {MAX_SWEEPS} sweeps")


def _sweep_once(rules: Sequence[RewriteRule], nodes: Iterable[ir.Node]) -> tuple[int, list[RefusedNode]]:
    changed, refusals = 0, []
    for node in nodes:
        if node.graph is None:  # an earlier rewrite of this sweep removed it
            continue
        rewrite, reasons = _first_fit(rules, node)
        if rewrite:
            rewrite()
            changed += 1
        elif reasons:
            refusals.append(RefusedNode(node.name or node.op_type, "; ".join(reasons)))
    return changed, refusals


def _first_fit(rules: Sequence[RewriteRule], node: ir.Node) -> tuple[RewriteFn | None, list[str]]:
    reasons: list[str] = []
    for rule in rules:
        if node.op_type not in rule.operators:
            continue
        try:
            rewrite = rule.check(node)
        except RewriteRefused as reason:
            reasons.append(str(reason))
        else:
            if rewrite:
                return rewrite, []
    return None, reasons
