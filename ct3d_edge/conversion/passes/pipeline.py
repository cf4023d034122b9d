"""Which passes run for which level and device class, one after the other, each on record."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import onnx
import onnx_ir as ir

from ct3d_edge.conversion.passes import (
    cancel_transposes,
    crop_unused,
    depth_tiling,
    fold_into_dense,
    fold_into_next,
    fold_into_previous,
    merge_reshapes,
    reduce_channels_first,
    swap_affine_pool,
    swap_relu_pool,
)
from ct3d_edge.conversion.passes.graph import rank
from ct3d_edge.conversion.passes.lower_conv3d import (
    depth_im2col,
    lower_conv_transpose,
    lower_elementwise,
    lower_pool,
    lower_reduce,
    lower_slice_concat,
    row_interleave,
    winograd_3d,
    winograd_depth,
)
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import VOLUME_AXES
from ct3d_edge.conversion.passes.rule import RefusedNode, RewriteRule, apply_rules, cleanup
from ct3d_edge.conversion.passes.validate_graph import validate_graph
from ct3d_edge.errors import ModelError, UsageError

Level = Literal["none", "exact", "fast", "small"]
Target = Literal["cpu", "cuda", "tensorrt", "no-conv3d"]

WinogradAxes = Literal["none", "depth", "all"]

TARGETS_KEEPING_3D = ("cuda", "tensorrt")
"""Device classes with fast 3D operators of their own."""


@dataclass(frozen=True)
class Pass:
    """Rules that are applied together until none fits any more."""

    name: str
    rules: tuple[RewriteRule, ...]


@dataclass(frozen=True)
class PassRecord:
    """What one pass did.

    Parameters
    ----------
    name
        Of the pass.
    before, after
        Number of nodes.
    rewrites
        How often a rule fitted.
    refusals
        Nodes that a rule was meant for and left as they were, and why.
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
        """Plain data for the provenance; reasons only where there are any."""
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
    """A rewritten graph and how it came about."""

    proto: onnx.ModelProto
    steps: tuple[PassRecord, ...]


EXACT_PASSES = (
    Pass("transposes", (cancel_transposes.RULE, reduce_channels_first.RULE)),
    Pass("fold backward", (fold_into_previous.RULE,)),
    Pass("behind pooling", (swap_affine_pool.RULE, swap_relu_pool.RULE, fold_into_previous.RULE)),
    Pass("fold forward", (fold_into_next.RULE, fold_into_dense.RULE)),
    Pass("merge", (fold_into_previous.RULE,)),
    Pass("crop", (crop_unused.RULE,)),
)


LOWER_CONV3D_RULES = (
    lower_slice_concat.RULE,
    depth_im2col.RULE,
    lower_conv_transpose.RULE,
    lower_pool.RULE,
    swap_relu_pool.RULE,
    lower_elementwise.RULE,
    lower_reduce.RULE,
)
LAYOUT_PASS = Pass("layout", (cancel_transposes.RULE, merge_reshapes.RULE))


ROW_INTERLEAVE_PASS = Pass("alternating rows", (row_interleave.RULE,))

CACHE_BYTES = 20_000_000
"""Bytes that what a piece of a layer reads and writes may take to stay in the last cache of a usual processor."""

CACHE_TILING_PASS = Pass("cache blocking", (depth_tiling.make_depth_tiling_rule(CACHE_BYTES, 1),))
WINOGRAD_3D_PASS = Pass("filtering along all axes", (winograd_3d.RULE,))
WINOGRAD_DEPTH_PASSES = (Pass("planes", (winograd_depth.RULE, *LOWER_CONV3D_RULES)), LAYOUT_PASS)
FAST_PASSES = (CACHE_TILING_PASS, ROW_INTERLEAVE_PASS, WINOGRAD_3D_PASS, *WINOGRAD_DEPTH_PASSES)

DEFAULT_MAX_MEMORY = 50_000_000
"""Bytes of intermediate tensors, for `small` if the caller names no number."""

MAX_WINOGRAD_WEIGHT_BYTES = 2_000_000
"""Bytes a layer that `small` lets minimal filtering make of its weights."""


def _small_passes(budget: int, winograd_axes: WinogradAxes) -> tuple[Pass, ...]:
    """Pieces over two convolutions, in which tensors exist about three times, and within each over the first one."""
    planes = (
        LOWER_CONV3D_RULES
        if winograd_axes == "none"
        else (winograd_depth.make_limited_rule(MAX_WINOGRAD_WEIGHT_BYTES), *LOWER_CONV3D_RULES)
    )
    return (
        Pass("depth streaming", (depth_tiling.make_depth_tiling_rule(budget // 3, 2),)),
        Pass("depth streaming within", (depth_tiling.make_depth_tiling_rule(budget // 4, 1),)),
        ROW_INTERLEAVE_PASS,
        Pass("planes", planes),
        LAYOUT_PASS,
    )


def _fast_passes(target: Target, winograd_axes: WinogradAxes) -> tuple[Pass, ...]:
    """Filtering along all axes leaves plain products of matrices, which devices made for convolutions run slowly."""
    if winograd_axes == "none":
        return (Pass("planes", LOWER_CONV3D_RULES), LAYOUT_PASS)
    return (
        FAST_PASSES
        if (target, winograd_axes) == ("cpu", "all")
        else (CACHE_TILING_PASS, ROW_INTERLEAVE_PASS, *WINOGRAD_DEPTH_PASSES)
    )


def select_passes(
    level: Level, target: Target, max_memory: int | None = None, *, winograd_axes: WinogradAxes = "all"
) -> tuple[Pass, ...]:
    """The passes of a level on a device class, in their order.

    Parameters
    ----------
    level, target, max_memory, winograd_axes
        As in `optimize_graph`.

    Raises
    ------
    UsageError
        If they contradict each other.
    """
    if max_memory is not None and (level != "small" or target in TARGETS_KEEPING_3D):
        raise UsageError("`max_memory=` is for `level=small`, on cpu or no-conv3d.")
    if level == "none" and target == "no-conv3d":
        raise UsageError("A file without 3D convolutions needs rewriting: `level=none` cannot give it.")
    if level == "none":
        return ()
    if target in TARGETS_KEEPING_3D or (level == "exact" and target == "cpu"):
        return EXACT_PASSES
    if level == "exact":
        return (*EXACT_PASSES, Pass("planes", LOWER_CONV3D_RULES), LAYOUT_PASS)
    if level == "small":
        return (*EXACT_PASSES, *_small_passes(max_memory or DEFAULT_MAX_MEMORY, winograd_axes))
    return (*EXACT_PASSES, *_fast_passes(target, winograd_axes))


def optimize_graph(
    model: onnx.ModelProto,
    level: Level = "fast",
    target: Target = "cpu",
    max_memory: int | None = None,
    *,
    winograd_axes: WinogradAxes = "all",
    strict: bool = False,
) -> OptimizedGraph:
    """Rewrite a graph into one that gives the same answers sooner or in less memory.

    Parameters
    ----------
    model
        Opset 18 or later, float32, self-contained, shapes known but for the batch axis; it is not changed.
    level
        ``"exact"``: nothing but what is equal by algebra. ``"fast"``: 3D operators in the form that the device runs
        fastest. ``"small"``: and a few planes at a time.
    target
        Device class: ``"cuda"`` and ``"tensorrt"`` keep 3D operators; ``"no-conv3d"`` leaves none.
    max_memory
        Bytes that intermediate tensors of one scan may take, about, for ``"small"``; a default if None.
    winograd_axes
        Axes along which minimal filtering is permitted, whose sums of weights and voxels take more digits than they
        had: eight bits hold none of them, float16 those along depth.
    strict
        Let a pass that fails end the whole; otherwise it is undone and reported.

    Raises
    ------
    ModelError
        The graph cannot be rewritten, or not without 3D operators although the target forbids them.
    UsageError
        Level and target contradict each other.
    """
    planned = select_passes(level, target, max_memory, winograd_axes=winograd_axes)
    if not planned:
        return OptimizedGraph(model, ())
    done = run_passes(model, planned, strict=strict)
    if target == "no-conv3d":
        _require_no_3d(done)
    return done


def run_passes(model: onnx.ModelProto, passes: Iterable[Pass], *, strict: bool = False) -> OptimizedGraph:
    """Run passes one after the other, as `optimize_graph` does with those of a level."""
    current, steps = validate_graph(model), []
    for planned in passes:
        current, step = _run_pass(planned, current, strict)
        steps.append(step)
    proto = ir.to_proto(current)
    del proto.graph.value_info[:]
    return OptimizedGraph(proto, tuple(steps))


def _run_pass(planned: Pass, model: ir.Model, strict: bool) -> tuple[ir.Model, PassRecord]:
    """One pass on a copy, so that a failure leaves what was before."""
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


def _require_no_3d(done: OptimizedGraph) -> None:
    for node in validate_graph(done.proto).graph.all_nodes():
        if node.op_type in OPS_3D and any(value and rank(value) == VOLUME_AXES for value in node.inputs[:2]):
            refusals = [refusal for step in done.steps for refusal in step.refusals if refusal.node == node.name]
            reason = refusals[-1].reason if refusals else "no rule is made for it"
            raise ModelError(f"Node {node.name} ({node.op_type}) cannot be put without 3D operators: {reason}.")


OPS_3D = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool"})
"""Operators that slide over, or pool, three axes when their input has five."""
