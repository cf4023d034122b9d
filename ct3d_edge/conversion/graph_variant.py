"""Options of the compiler, and the graph that results: rewritten and in its precision."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.extra_outputs.gradcam_output import add_features_output, remove_features_output
from ct3d_edge.conversion.parity.parity_data import CalibrationData
from ct3d_edge.conversion.passes.lower_conv3d.kernel_storage import store_kernels_untransformed
from ct3d_edge.conversion.passes.pass_runner import OptimizedGraph
from ct3d_edge.conversion.passes.pipeline import Level, Target, WinogradAxes, optimize_graph
from ct3d_edge.conversion.precision.fp16 import convert_to_fp16, simulate_fp16
from ct3d_edge.conversion.precision.fp16_sensitivity import find_fp16_sensitive_nodes, measure_ranges
from ct3d_edge.conversion.precision.fp16_weights import store_weights_fp16
from ct3d_edge.conversion.precision.int8 import convert_to_int8, max_weight_integer, snap_to_grid
from ct3d_edge.conversion.precision.tolerances import (
    PRECISION_TOLERANCES,
    Precision,
    PrecisionTolerance,
    RequestedPrecision,
    WeightDtype,
)
from ct3d_edge.errors import UsageError

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompileOptions:
    """How a graph is rewritten, and its precision.

    Parameters
    ----------
    level, target, max_memory, strict
        As in `passes.optimize_graph`.
    gradcam_output
        Whether the graph gets the output for Grad-CAM.
    precision
        Type in which the file computes.
    weight_dtype
        Type in which an fp32 file stores its weights.
    filtering
        Axes along which minimal filtering (Winograd) is permitted, if precision and target permit them.

    Raises
    ------
    UsageError
        `weight_dtype` contradicts `precision`, or a Grad-CAM output is wanted in another precision than fp32.
    """

    level: Level = "fast"
    target: Target = "cpu"
    max_memory: int | None = None
    strict: bool = False
    gradcam_output: bool = False
    precision: RequestedPrecision = "fp32"
    weight_dtype: WeightDtype = "fp32"
    filtering: WinogradAxes = "all"

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
        """Axes of Winograd convolution: its sums do not fit eight bits, and those along all axes not float16.

        Along all axes the weights grow most, so a file with its weights in float16 uses one axis.
        """
        if self.precision == "int8" or self.filtering == "none":
            return "none"
        return self.filtering if (self.precision, self.weight_dtype) == ("fp32", "fp32") else "depth"


@dataclass(frozen=True, eq=False)
class RewrittenGraph:
    """A rewritten graph, and the passes for its provenance."""

    proto: onnx.ModelProto
    provenance: dict[str, Any]


def rewrite_graph(proto: onnx.ModelProto, options: CompileOptions) -> RewrittenGraph:
    """Run the passes that the options name.

    Raises
    ------
    ModelError, UsageError
        As `optimize_graph` and `add_features_output`.
    """
    proto = add_features_output(proto) if options.gradcam_output else remove_features_output(proto)
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
            LOGGER.warning("pass %s failed and was left out: %s", step.name, step.failure)
    return RewrittenGraph(done.proto, _provenance(options, done))


def _provenance(options: CompileOptions, done: OptimizedGraph) -> dict[str, Any]:
    asked: dict[str, Any] = {"level": options.level, "target": options.target}
    if options.max_memory is not None:
        asked["max_memory"] = options.max_memory
    if options.filtering != "all":
        asked["filtering"] = options.filtering
    return {"optimize": asked, "passes": [step.to_dict() for step in done.steps]}


@dataclass(frozen=True, eq=False)
class GraphVariant:
    """A graph to check and write.

    Parameters
    ----------
    proto
        The graph that is written.
    precision
        Type in which it computes.
    tolerance
        Limits of its parity check.
    fp32
        The float32 graph with which its tensors are compared.
    fp16_simulated
        Simulation of its float16 arithmetic in float32, for processors without float16; None for other precisions.
    provenance
        Passes and precision.
    """

    proto: onnx.ModelProto
    precision: Precision
    tolerance: PrecisionTolerance
    fp32: onnx.ModelProto
    fp16_simulated: onnx.ModelProto | None
    provenance: dict[str, Any]

    @property
    def debug_graph(self) -> onnx.ModelProto:
        """The graph whose tensors are compared: simulated float16 if there is one."""
        return self.fp16_simulated or self.proto

    @property
    def stored_precision(self) -> str:
        """``fp16-weight`` for an fp32 graph whose weights are stored in float16, else its precision."""
        return "fp16-weight" if "weights" in self.provenance.get("precision", {}) else self.precision

    @property
    def has_reduced_precision(self) -> bool:
        """Whether it computes, or stores weights, in a lower precision than float32."""
        return self.stored_precision != "fp32"


def make_variant(
    source_graph: onnx.ModelProto,
    rewritten: RewrittenGraph,
    options: CompileOptions,
    contract: Contract,
    calibration: CalibrationData | None,
) -> GraphVariant:
    """Convert a rewritten graph to the precision of the options, which is not ``auto``.

    Raises
    ------
    ModelError
        The graph cannot be converted.
    UsageError
        There are no volumes to calibrate on, or too few.
    """
    provenance = rewritten.provenance
    if options.precision == "fp32":
        return _make_fp32_variant(source_graph, rewritten.proto, options, provenance)
    if calibration is None:
        raise UsageError(f"`precision={options.precision}` needs volumes to calibrate on: `calibration_data=FOLDER`")
    LOGGER.info("calibrating %s on %s ...", options.precision, calibration.description)
    batches = _batches(calibration, contract)
    if options.precision == "fp16":
        made = _measure_and_make_fp16(rewritten.proto, batches)
    else:
        made = _make_int8_variant(source_graph, options, batches)
    made.provenance["precision"] |= {"calibration": calibration.to_dict()}
    return GraphVariant(
        made.proto, made.precision, made.tolerance, made.fp32, made.fp16_simulated, {**provenance, **made.provenance}
    )


def _make_fp32_variant(
    source_graph: onnx.ModelProto, proto: onnx.ModelProto, options: CompileOptions, provenance: dict[str, Any]
) -> GraphVariant:
    if options.target == "cpu":  # other devices are prepared for by compilers that may want constants
        proto, count = store_kernels_untransformed(proto)
        provenance = {**provenance, "untransformed_kernels": count} if count else provenance
    if options.weight_dtype == "fp32":
        return GraphVariant(proto, "fp32", PRECISION_TOLERANCES["fp32"], source_graph, None, provenance)
    made, fp32_weights = store_weights_fp16(proto)
    record = {"arithmetic": "fp32", "weights": "fp16", "fp32_weights": fp32_weights}
    return GraphVariant(made, "fp32", PRECISION_TOLERANCES["fp16"], proto, None, {**provenance, "precision": record})


def _measure_and_make_fp16(proto: onnx.ModelProto, batches: Iterator[NDArray[np.float32]]) -> GraphVariant:
    fp32_nodes = find_fp16_sensitive_nodes(proto, measure_ranges(proto, batches))
    return make_fp16_variant(proto, fp32_nodes)


def make_fp16_variant(proto: onnx.ModelProto, fp32_nodes: dict[str, str]) -> GraphVariant:
    """A graph in float16 except some nodes: the name of the first output of each, and the reason."""
    nodes = {node.output[0]: node.name or node.output[0] for node in proto.graph.node}
    record = {"arithmetic": "fp16", "fp32_nodes": {nodes[tensor]: reason for tensor, reason in fp32_nodes.items()}}
    half, simulated = convert_to_fp16(proto, fp32_nodes), simulate_fp16(proto, fp32_nodes)
    return GraphVariant(half, "fp16", PRECISION_TOLERANCES["fp16"], proto, simulated, {"precision": record})


def _make_int8_variant(
    source_graph: onnx.ModelProto, options: CompileOptions, batches: Iterator[NDArray[np.float32]]
) -> GraphVariant:
    """Weights are rounded while kernels are whole: after folding, before convolutions are lowered.

    For other targets `exact` lowers them already, so the folding is that for the CPU.
    """
    folding = replace(options, level="none" if options.level == "none" else "exact", target="cpu", max_memory=None)
    folded = rewrite_graph(source_graph, folding)
    fp32 = rewrite_graph(folded.proto, options).proto
    rounded = rewrite_graph(snap_to_grid(folded.proto, max_weight_integer(options.target)), options)
    made, fp32_nodes = convert_to_int8(rounded.proto, batches, options.target)
    passes = [*folded.provenance["passes"], *rounded.provenance["passes"]]
    record = {"arithmetic": "int8", "fp32_nodes": fp32_nodes}
    return GraphVariant(made, "int8", PRECISION_TOLERANCES["int8"], fp32, None, {"passes": passes, "precision": record})


def _batches(calibration: CalibrationData, contract: Contract) -> Iterator[NDArray[np.float32]]:
    return (volume.reshape(1, *contract.input_shape) for volume in calibration)
