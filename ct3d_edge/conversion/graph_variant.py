"""A rewritten graph in the numbers that were asked for, and what it is to be compared with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.compile_options import CompileOptions, RewrittenGraph, rewrite_graph
from ct3d_edge.conversion.precision import Precision
from ct3d_edge.conversion.precision.bias_correction import Batches, correct_biases
from ct3d_edge.conversion.precision.calibration_data import PRECISION_TOLERANCES, CalibrationData, PrecisionTolerance
from ct3d_edge.conversion.precision.fp16 import convert_to_fp16, simulate_fp16
from ct3d_edge.conversion.precision.fp16_sensitivity import find_fp16_sensitive_nodes, measure_ranges
from ct3d_edge.conversion.precision.fp16_weights import store_weights_fp16
from ct3d_edge.conversion.precision.int8 import convert_to_int8, max_weight_integer, snap_to_grid
from ct3d_edge.errors import UsageError

MAX_BIAS_VOLUMES = 8
"""Of the calibration volumes, on how many biases are corrected at most: each layer asks for a run of each."""


@dataclass(frozen=True, eq=False)
class GraphVariant:
    """A graph to be proven and written.

    Parameters
    ----------
    proto
        What is written.
    precision
        What it computes in.
    limits
        What it is held to.
    before
        The float32 graph that its tensors are compared with.
    fp16_simulated
        Its arithmetic played in float32, for processors without float16; None where that is not needed.
    provenance
        What was done.
    """

    proto: onnx.ModelProto
    precision: Precision
    limits: PrecisionTolerance
    before: onnx.ModelProto
    fp16_simulated: onnx.ModelProto | None
    provenance: dict[str, Any]

    @property
    def observed(self) -> onnx.ModelProto:
        """The graph whose tensors show what happens."""
        return self.fp16_simulated or self.proto


def make_variant(
    original: onnx.ModelProto,
    rewritten: RewrittenGraph,
    plan: CompileOptions,
    contract: Contract,
    calibration: CalibrationData | None,
    *,
    on_stage: Callable[[str], None] = lambda _: None,
) -> GraphVariant:
    """Put a rewritten graph into the precision of a plan, which is not ``auto``.

    Raises
    ------
    ModelError
        The graph cannot be put into it.
    UsageError
        There is nothing to calibrate on, or too little.
    """
    provenance = rewritten.provenance
    if plan.precision == "fp32":
        return _make_fp32_variant(original, rewritten.proto, plan, provenance)
    if calibration is None:
        raise UsageError(f"--precision {plan.precision} needs volumes to calibrate on: --calibration-data FOLDER")
    on_stage("calibrating")
    batches = _batches(calibration, contract)
    if plan.precision == "fp16":
        made = _measure_and_make_fp16(rewritten.proto, batches)
    else:
        made = _make_int8_variant(original, plan, batches, partial(_sample_batches, calibration, contract))
    made.provenance["precision"] |= {"calibration": calibration.to_dict()}
    return GraphVariant(
        made.proto, made.precision, made.limits, made.before, made.fp16_simulated, {**provenance, **made.provenance}
    )


def _make_fp32_variant(
    original: onnx.ModelProto, proto: onnx.ModelProto, plan: CompileOptions, provenance: dict[str, Any]
) -> GraphVariant:
    if plan.weights == "fp32":
        return GraphVariant(proto, "fp32", PRECISION_TOLERANCES["fp32"], original, None, provenance)
    made, kept = store_weights_fp16(proto)
    told = {"arithmetic": "fp32", "weights": "fp16", "fp32_weights": kept}
    return GraphVariant(made, "fp32", PRECISION_TOLERANCES["fp16"], proto, None, {**provenance, "precision": told})


def _measure_and_make_fp16(proto: onnx.ModelProto, batches: Iterator[NDArray[np.float32]]) -> GraphVariant:
    kept = find_fp16_sensitive_nodes(proto, measure_ranges(proto, batches))
    return make_fp16_variant(proto, kept)


def make_fp16_variant(proto: onnx.ModelProto, kept: dict[str, str]) -> GraphVariant:
    """A graph in float16 but for some nodes, each named by the first tensor it gives, with the reason."""
    nodes = {node.output[0]: node.name or node.output[0] for node in proto.graph.node}
    told = {"arithmetic": "fp16", "fp32_nodes": {nodes[tensor]: reason for tensor, reason in kept.items()}}
    half, rehearsal = convert_to_fp16(proto, kept), simulate_fp16(proto, kept)
    return GraphVariant(half, "fp16", PRECISION_TOLERANCES["fp16"], proto, rehearsal, {"precision": told})


def _make_int8_variant(
    original: onnx.ModelProto, plan: CompileOptions, batches: Iterator[NDArray[np.float32]], some: Callable[[], Batches]
) -> GraphVariant:
    """Weights are rounded where kernels are whole: behind the folding, before convolutions are taken apart.

    For other devices `exact` takes them apart already, so the folding is that for the CPU.
    """
    folding = replace(plan, level="none" if plan.level == "none" else "exact", target="cpu", max_memory=None)
    folded = rewrite_graph(original, folding)
    single = rewrite_graph(folded.proto, plan).proto
    rounded = rewrite_graph(snap_to_grid(folded.proto, max_weight_integer(plan.target)), plan)
    made, kept = convert_to_int8(rounded.proto, batches, plan.target)
    few = some()
    made = correct_biases(single, made, few)
    passes = [*folded.provenance["passes"], *rounded.provenance["passes"]]
    told = {"arithmetic": "int8", "fp32_nodes": kept, "biases_corrected_on": len(few)}
    return GraphVariant(made, "int8", PRECISION_TOLERANCES["int8"], single, None, {"passes": passes, "precision": told})


def _batches(calibration: CalibrationData, contract: Contract) -> Iterator[NDArray[np.float32]]:
    return (volume.reshape(1, *contract.input_shape) for volume in calibration)


def _sample_batches(calibration: CalibrationData, contract: Contract) -> Batches:
    return [volume.reshape(1, *contract.input_shape) for volume in calibration.spread(MAX_BIAS_VOLUMES)]
