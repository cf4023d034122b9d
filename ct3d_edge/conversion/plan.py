"""How a graph is to be rewritten, and what came of it, as provenance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx

from ct3d_edge.conversion.explanation import with_features, without_features
from ct3d_edge.conversion.passes import Level, Optimised, Target, optimize


@dataclass(frozen=True)
class Plan:
    """What is asked of the passes.

    Parameters
    ----------
    level, target, memory_budget, strict
        As in `passes.optimize`.
    explain
        Whether the graph gets the output that explains its answers.
    """

    level: Level = "fast"
    target: Target = "cpu"
    memory_budget: int | None = None
    strict: bool = False
    explain: bool = False


@dataclass(frozen=True, eq=False)
class Rewritten:
    """A rewritten graph and what its provenance says of that."""

    proto: onnx.ModelProto
    provenance: dict[str, Any]


def rewrite(proto: onnx.ModelProto, plan: Plan, *, on_stage: Callable[[str], None] = lambda _: None) -> Rewritten:
    """Run the passes of a plan.

    Raises
    ------
    ModelError, UsageError
        As `passes.optimize` and `with_features` do.
    """
    proto = with_features(proto) if plan.explain else without_features(proto)
    if plan.level != "none":
        on_stage("rewriting")
    done = optimize(proto, plan.level, plan.target, plan.memory_budget, strict=plan.strict)
    for step in done.steps:
        if step.failure:
            on_stage(f"pass {step.name} failed and was left out: {step.failure}")
    return Rewritten(done.proto, _provenance(plan, done))


def _provenance(plan: Plan, done: Optimised) -> dict[str, Any]:
    asked: dict[str, Any] = {"level": plan.level, "target": plan.target}
    if plan.memory_budget is not None:
        asked["memory_budget"] = plan.memory_budget
    return {"optimize": asked, "passes": [step.to_dict() for step in done.steps]}
