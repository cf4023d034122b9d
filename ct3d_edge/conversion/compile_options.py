"""How a graph is to be rewritten, and what came of it, as provenance."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import onnx

from ct3d_edge.conversion.gradcam_output import add_features_output, remove_features_output
from ct3d_edge.conversion.passes.pipeline import Level, OptimizedGraph, Target, WinogradAxes, optimize_graph
from ct3d_edge.conversion.precision import RequestedPrecision, WeightDtype
from ct3d_edge.errors import UsageError


@dataclass(frozen=True)
class CompileOptions:
    """What is asked of the passes, and in what numbers the outcome computes.

    Parameters
    ----------
    level, target, max_memory, strict
        As in `passes.optimize_graph`.
    gradcam_output
        Whether the graph gets the output that explains its answers.
    precision
        What the file computes in.
    weight_dtype
        What an fp32 file stores its weights in.

    Raises
    ------
    UsageError
        If weights are asked for that the precision decides already, or an explanation in fewer bits.
    """

    level: Level = "fast"
    target: Target = "cpu"
    max_memory: int | None = None
    strict: bool = False
    gradcam_output: bool = False
    precision: RequestedPrecision = "fp32"
    weight_dtype: WeightDtype = "fp32"

    def __post_init__(self) -> None:
        if self.weight_dtype == "fp16" and self.precision != "fp32":
            stored = {"fp16": "float16", "int8": "int8"}.get(self.precision, "what it chooses")
            raise UsageError(
                f"`precision={self.precision}` stores weights in {stored} already: leave out `weight_dtype=fp16`, "
                "which is for `precision=fp32`."
            )
        if self.gradcam_output and (self.precision, self.weight_dtype) != ("fp32", "fp32"):
            raise UsageError(
                "`gradcam_output=True` is for files in fp32: a map is computed from weights as they were trained."
            )

    @property
    def winograd_axes(self) -> WinogradAxes:
        """Where minimal filtering may be used: its sums do not fit eight bits, along all axes not float16 either.

        Along all axes weights grow most, which is not what a file with its weights in float16 is for.
        """
        if self.precision == "int8":
            return "none"
        return "all" if (self.precision, self.weight_dtype) == ("fp32", "fp32") else "depth"


@dataclass(frozen=True, eq=False)
class RewrittenGraph:
    """A rewritten graph and what its provenance says of that."""

    proto: onnx.ModelProto
    provenance: dict[str, Any]


def rewrite_graph(
    proto: onnx.ModelProto, options: CompileOptions, *, on_stage: Callable[[str], None] = lambda _: None
) -> RewrittenGraph:
    """Run the passes that the options name.

    Raises
    ------
    ModelError, UsageError
        As `passes.optimize_graph` and `add_features_output` do.
    """
    proto = add_features_output(proto) if options.gradcam_output else remove_features_output(proto)
    if options.level != "none":
        on_stage("rewriting")
    done = optimize_graph(
        proto,
        options.level,
        options.target,
        options.max_memory,
        winograd_axes=options.winograd_axes,
        strict=options.strict,
    )
    for step in done.steps:
        if step.failure:
            on_stage(f"pass {step.name} failed and was left out: {step.failure}")
    return RewrittenGraph(done.proto, _provenance(options, done))


def _provenance(options: CompileOptions, done: OptimizedGraph) -> dict[str, Any]:
    asked: dict[str, Any] = {"level": options.level, "target": options.target}
    if options.max_memory is not None:
        asked["max_memory"] = options.max_memory
    return {"optimize": asked, "passes": [step.to_dict() for step in done.steps]}
