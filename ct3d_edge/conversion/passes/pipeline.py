"""Passes by level and target."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Literal

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
    taps_as_channels,
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
from ct3d_edge.conversion.passes.lower_conv3d.filter_plan import FilterPlan, plan_filtering
from ct3d_edge.conversion.passes.lower_conv3d.plane_layout import VOLUME_AXES
from ct3d_edge.conversion.passes.pass_runner import OptimizedGraph, Pass, run_on_graph
from ct3d_edge.conversion.passes.rule import RewriteFn, RewriteRule
from ct3d_edge.conversion.passes.validate_graph import validate_graph
from ct3d_edge.errors import ModelError, UsageError

Level = Literal["none", "exact", "fast", "small"]
Target = Literal["cpu", "openvino", "cuda", "tensorrt", "no-conv3d"]

WinogradAxes = Literal["none", "depth", "all"]

TARGETS_KEEPING_3D = ("openvino", "cuda", "tensorrt")
"""Targets with fast 3D operators."""


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
TAPS_PASS = Pass("taps as channels", (taps_as_channels.RULE,))


ROW_INTERLEAVE_PASS = Pass("alternating rows", (row_interleave.RULE,))

CACHE_BYTES = 20_000_000
"""Bytes that a piece of a layer may read and write to stay in the last-level cache of a usual processor."""

CACHE_TILING_PASS = Pass("cache blocking", (depth_tiling.make_depth_tiling_rule(CACHE_BYTES, 1),))
WINOGRAD_3D_PASS = Pass("filtering along all axes", (winograd_3d.RULE,))
WINOGRAD_DEPTH_PASSES = (Pass("planes", (winograd_depth.RULE, *LOWER_CONV3D_RULES)), LAYOUT_PASS)
FAST_PASSES = (CACHE_TILING_PASS, ROW_INTERLEAVE_PASS, WINOGRAD_3D_PASS, *WINOGRAD_DEPTH_PASSES)
NO_PLAN = FilterPlan()

DEFAULT_MAX_MEMORY = 50_000_000
"""Bytes of intermediate tensors for `small` by default."""

MAX_WINOGRAD_WEIGHT_BYTES = 2_000_000
"""Bytes a layer that `small` lets minimal filtering make of its weights."""


def _small_passes(budget: int, winograd_axes: WinogradAxes, plan: FilterPlan) -> tuple[Pass, ...]:
    """Pieces over two convolutions, in which tensors exist about three times, and within each over the first one."""
    planes = (
        LOWER_CONV3D_RULES
        if winograd_axes == "none"
        else (
            _restrict(winograd_depth.make_limited_rule(MAX_WINOGRAD_WEIGHT_BYTES), plan.require_depth),
            *LOWER_CONV3D_RULES,
        )
    )
    return (
        Pass("depth streaming", (depth_tiling.make_depth_tiling_rule(budget // 3, 2),)),
        Pass("depth streaming within", (depth_tiling.make_depth_tiling_rule(budget // 4, 1),)),
        ROW_INTERLEAVE_PASS,
        Pass("planes", planes),
        LAYOUT_PASS,
    )


def _fast_passes(target: Target, winograd_axes: WinogradAxes, plan: FilterPlan) -> tuple[Pass, ...]:
    """Filtering along all axes leaves plain products of matrices, which devices made for convolutions run slowly."""
    if winograd_axes == "none":
        return (Pass("planes", LOWER_CONV3D_RULES), LAYOUT_PASS)
    planes, layout = WINOGRAD_DEPTH_PASSES
    depth, *others = planes.rules
    passes: tuple[Pass, ...] = (replace(planes, rules=(_restrict(depth, plan.require_depth), *others)), layout)
    if (target, winograd_axes) == ("cpu", "all"):
        rules = tuple(_restrict(rule, plan.require_all_axes) for rule in WINOGRAD_3D_PASS.rules)
        passes = (replace(WINOGRAD_3D_PASS, rules=rules), *passes)
    return (CACHE_TILING_PASS, ROW_INTERLEAVE_PASS, *passes)


def _restrict(rule: RewriteRule, require: Callable[[ir.Node], None]) -> RewriteRule:
    """The rule where ``require`` does not raise `RewriteRefused`."""

    def check(node: ir.Node) -> RewriteFn | None:
        require(node)
        return rule.check(node)

    return replace(rule, check=check)


def select_passes(
    level: Level,
    target: Target,
    max_memory: int | None = None,
    *,
    winograd_axes: WinogradAxes = "all",
    plan: FilterPlan = NO_PLAN,
) -> tuple[Pass, ...]:
    """Passes of a level for a target, in their order.

    Parameters
    ----------
    level, target, max_memory, winograd_axes
        As in `optimize_graph`.
    plan
        Convolutions of the graph that are not to be filtered, from `plan_filtering`.

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
    if target == "openvino" and level != "exact":
        return (*EXACT_PASSES, TAPS_PASS)
    if target in TARGETS_KEEPING_3D or (level == "exact" and target == "cpu"):
        return EXACT_PASSES
    if level == "exact":
        return (*EXACT_PASSES, Pass("planes", LOWER_CONV3D_RULES), LAYOUT_PASS)
    if level == "small":
        passes = _small_passes(max_memory or DEFAULT_MAX_MEMORY, winograd_axes, plan)
    else:
        passes = _fast_passes(target, winograd_axes, plan)
    if target == "cpu" and winograd_axes != "none":  # 8-bit kernels are a quarter as large
        passes = tuple(_keep_3d(passes, plan))
    return (*EXACT_PASSES, *passes)


def _keep_3d(passes: Iterable[Pass], plan: FilterPlan) -> Iterator[Pass]:
    """The passes where convolutions that the plan keeps 3D are left alone."""
    for planned in passes:
        rules = (_restrict(rule, plan.require_planes) if "Conv" in rule.operators else rule for rule in planned.rules)
        yield replace(planned, rules=tuple(rules))


def optimize_graph(
    model: onnx.ModelProto,
    level: Level = "fast",
    target: Target = "cpu",
    max_memory: int | None = None,
    *,
    winograd_axes: WinogradAxes = "all",
    strict: bool = False,
) -> OptimizedGraph:
    """Rewrite a graph into an equal one that is faster or needs less memory.

    Parameters
    ----------
    model
        Opset 18 or later, float32, self-contained, shapes known except the batch axis; it is not changed.
    level
        ``"exact"``: only rewrites that are equal by algebra. ``"fast"``: also 3D operators in the form that the device
        runs fastest. ``"small"``: also a few planes at a time.
    target
        Class of devices: ``"openvino"``, ``"cuda"`` and ``"tensorrt"`` keep 3D operators; ``"no-conv3d"`` leaves none.
    max_memory
        Approximate bytes of the intermediate tensors of one scan, for ``"small"``; a default if None.
    winograd_axes
        Axes along which minimal filtering is permitted, whose sums of weights and voxels take more digits than they
        had: eight bits hold none of them, float16 those along depth.
    strict
        Raise the error of a pass that fails; otherwise the pass is undone and reported.

    Raises
    ------
    ModelError
        The graph cannot be rewritten, or not without 3D operators although the target forbids them.
    UsageError
        Level and target contradict each other.
    """
    if not select_passes(level, target, max_memory, winograd_axes=winograd_axes):
        return OptimizedGraph(model, ())
    graph = validate_graph(model)
    planned = select_passes(level, target, max_memory, winograd_axes=winograd_axes, plan=plan_filtering(graph))
    done = run_on_graph(graph, planned, strict=strict)
    if target == "no-conv3d":
        _require_no_3d(done)
    return done


def _require_no_3d(done: OptimizedGraph) -> None:
    for node in validate_graph(done.proto).graph.all_nodes():
        if node.op_type in OPS_3D and any(value and rank(value) == VOLUME_AXES for value in node.inputs[:2]):
            refusals = [refusal for step in done.steps for refusal in step.refusals if refusal.node == node.name]
            reason = refusals[-1].reason if refusals else "no rule is made for it"
            raise ModelError(f"Node {node.name} ({node.op_type}) cannot be put without 3D operators: {reason}.")


OPS_3D = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool"})
"""Operators that convolve or pool three axes of an input with five."""
