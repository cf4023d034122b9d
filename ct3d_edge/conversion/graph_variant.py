"""A rewritten graph in the numbers that were asked for, and what it is to be compared with."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.compile_options import CompileOptions, RewrittenGraph, rewrite_graph
from ct3d_edge.conversion.precision import Precision
from ct3d_edge.conversion.precision.calibration_data import CalibrationData
from ct3d_edge.conversion.precision.fp16 import convert_to_fp16, simulate_fp16
from ct3d_edge.conversion.precision.fp16_sensitivity import find_fp16_sensitive_nodes, measure_ranges
from ct3d_edge.conversion.precision.fp16_weights import store_weights_fp16
from ct3d_edge.conversion.precision.int8 import convert_to_int8, max_weight_integer, snap_to_grid
from ct3d_edge.conversion.precision.tolerances import PRECISION_TOLERANCES, PrecisionTolerance
from ct3d_edge.errors import UsageError


@dataclass(frozen=True, eq=False)
class GraphVariant:
    """A graph to check and write.

    Parameters
    ----------
    proto
        What is written.
    precision
        What it computes in.
    tolerance
        What it is held to.
    fp32
        The float32 graph that its tensors are compared with.
    fp16_simulated
        Its arithmetic played in float32, for processors without float16; None where that is not needed.
    provenance
        What was done.
    """

    proto: onnx.ModelProto
    precision: Precision
    tolerance: PrecisionTolerance
    fp32: onnx.ModelProto
    fp16_simulated: onnx.ModelProto | None
    provenance: dict[str, Any]

    @property
    def debug_graph(self) -> onnx.ModelProto:
        """The graph whose tensors show what happens."""
        return self.fp16_simulated or self.proto


def make_variant(
    source_graph: onnx.ModelProto,
    rewritten: RewrittenGraph,
    options: CompileOptions,
    contract: Contract,
    calibration: CalibrationData | None,
    *,
    on_stage: Callable[[str], None] = lambda _: None,
) -> GraphVariant:
    """Put a rewritten graph into the precision of the options, which is not ``auto``.

    Raises
    ------
    ModelError
        The graph cannot be put into it.
    UsageError
        There is nothing to calibrate on, or too little.
    """
    provenance = rewritten.provenance
    if options.precision == "fp32":
        return _make_fp32_variant(source_graph, rewritten.proto, options, provenance)
    if calibration is None:
        raise UsageError(f"`precision={options.precision}` needs volumes to calibrate on: `calibration_data=FOLDER`")
    on_stage("calibrating")
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
    if options.weight_dtype == "fp32":
        return GraphVariant(proto, "fp32", PRECISION_TOLERANCES["fp32"], source_graph, None, provenance)
    made, fp32_weights = store_weights_fp16(proto)
    record = {"arithmetic": "fp32", "weights": "fp16", "fp32_weights": fp32_weights}
    return GraphVariant(made, "fp32", PRECISION_TOLERANCES["fp16"], proto, None, {**provenance, "precision": record})


def _measure_and_make_fp16(proto: onnx.ModelProto, batches: Iterator[NDArray[np.float32]]) -> GraphVariant:
    fp32_nodes = find_fp16_sensitive_nodes(proto, measure_ranges(proto, batches))
    return make_fp16_variant(proto, fp32_nodes)


def make_fp16_variant(proto: onnx.ModelProto, fp32_nodes: dict[str, str]) -> GraphVariant:
    """A graph in float16 but for some nodes, each named by the first tensor it gives, with the reason."""
    nodes = {node.output[0]: node.name or node.output[0] for node in proto.graph.node}
    record = {"arithmetic": "fp16", "fp32_nodes": {nodes[tensor]: reason for tensor, reason in fp32_nodes.items()}}
    half, simulated = convert_to_fp16(proto, fp32_nodes), simulate_fp16(proto, fp32_nodes)
    return GraphVariant(half, "fp16", PRECISION_TOLERANCES["fp16"], proto, simulated, {"precision": record})


def _make_int8_variant(
    source_graph: onnx.ModelProto, options: CompileOptions, batches: Iterator[NDArray[np.float32]]
) -> GraphVariant:
    """Weights are rounded where kernels are whole: behind the folding, before convolutions are taken apart.

    For other devices `exact` takes them apart already, so the folding is that for the CPU.
    """
    folding = replace(options, level="none" if options.level == "none" else "exact", target="cpu", max_memory=None)
    folded = rewrite_graph(source_graph, folding)
    single = rewrite_graph(folded.proto, options).proto
    rounded = rewrite_graph(snap_to_grid(folded.proto, max_weight_integer(options.target)), options)
    made, fp32_nodes = convert_to_int8(rounded.proto, batches, options.target)
    passes = [*folded.provenance["passes"], *rounded.provenance["passes"]]
    record = {"arithmetic": "int8", "fp32_nodes": fp32_nodes}
    return GraphVariant(
        made, "int8", PRECISION_TOLERANCES["int8"], single, None, {"passes": passes, "precision": record}
    )


def _batches(calibration: CalibrationData, contract: Contract) -> Iterator[NDArray[np.float32]]:
    return (volume.reshape(1, *contract.input_shape) for volume in calibration)
