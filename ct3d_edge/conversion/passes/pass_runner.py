"""Passes over a graph: rules that are applied together, run one pass after the other, and what each changed."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import onnx
import onnx_ir as ir

from ct3d_edge.conversion.passes.rule import RefusedNode, RewriteRule, apply_rules, cleanup
from ct3d_edge.conversion.passes.validate_graph import validate_graph


@dataclass(frozen=True)
class Pass:
    """Rules that are applied together until none applies."""

    name: str
    rules: tuple[RewriteRule, ...]


@dataclass(frozen=True)
class PassRecord:
    """Result of one pass.

    Parameters
    ----------
    name
        Name of the pass.
    before, after
        Number of nodes.
    rewrites
        Number of rewrites.
    refusals
        Nodes that a rule was meant for and did not rewrite, with the reasons.
    failure
        Why the pass was undone, if it failed; empty if it did not.
    """

    name: str
    before: int
    after: int
    rewrites: int
    refusals: tuple[RefusedNode, ...] = ()
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the provenance."""
        plain: dict[str, Any] = {
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "rewrites": self.rewrites,
        }
        if self.refusals:
            plain["refused"] = {refusal.node: refusal.reason for refusal in self.refusals}
        if self.failure:
            plain["failure"] = self.failure
        return plain


@dataclass(frozen=True, eq=False)
class OptimizedGraph:
    """A rewritten graph and its passes."""

    proto: onnx.ModelProto
    steps: tuple[PassRecord, ...]


def run_passes(model: onnx.ModelProto, passes: Iterable[Pass], *, strict: bool = False) -> OptimizedGraph:
    """Run passes one after the other, on a graph that `validate_graph` accepts.

    Parameters
    ----------
    strict
        Raise the error of a pass that fails; otherwise the pass is undone and reported.
    """
    return run_on_graph(validate_graph(model), passes, strict=strict)


def run_on_graph(current: ir.Model, passes: Iterable[Pass], *, strict: bool) -> OptimizedGraph:
    """`run_passes` for a graph that was validated already."""
    steps = []
    for planned in passes:
        current, step = _run_pass(planned, current, strict)
        steps.append(step)
    proto = ir.to_proto(current)
    del proto.graph.value_info[:]
    return OptimizedGraph(proto, tuple(steps))


def _run_pass(planned: Pass, model: ir.Model, strict: bool) -> tuple[ir.Model, PassRecord]:
    """Run one pass on a copy, so that a failure does not change the graph."""
    before = model.graph.num_nodes()
    changed = model.clone()
    try:
        rewrites, refusals = apply_rules(planned.rules, changed)
        changed = cleanup(changed) if rewrites else model
    except Exception as error:
        if strict:
            raise
        return model, PassRecord(planned.name, before, before, 0, failure=f"{type(error).__name__}: {error}")
    return changed, PassRecord(planned.name, before, changed.graph.num_nodes(), rewrites, refusals)
