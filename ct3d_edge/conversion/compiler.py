"""Compile a graph into a checked model file; with ``auto``, in the fastest precision that passes the parity check."""

import logging
import statistics
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.graph_variant import CompileOptions, GraphVariant, make_variant, rewrite_graph
from ct3d_edge.conversion.parity.accuracy_bisect import CompileHistory, ParityFailure, bisect_failure
from ct3d_edge.conversion.passes.pipeline import Target
from ct3d_edge.conversion.precision.tolerances import Precision
from ct3d_edge.conversion.write_model import CompileJob, CompileResult, write_verified_model
from ct3d_edge.errors import CheckFailedError, ModelError, ProviderError
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs

LOGGER = logging.getLogger(__name__)

AUTO_PRECISIONS: dict[Target, tuple[Precision, ...]] = {
    "cpu": ("int8", "fp32"),
    "openvino": ("int8", "fp32"),
    "cuda": ("fp16", "fp32"),
    "tensorrt": ("int8", "fp16", "fp32"),
    "no-conv3d": ("int8", "fp16", "fp32"),
}
"""Precisions that ``auto`` tries for a target, in this order. ONNX Runtime's CPU provider computes float16 in float32,
between casts; its CUDA provider has no 8-bit convolutions."""

USE_SCANS = "Calibrate and compare on scans of the application (`calibration_data=FOLDER`, `parity_data=FOLDER`), or"
REMEDIES = {
    "int8": f" {USE_SCANS} use `precision=fp16` or fp32.",
    "fp16": f" {USE_SCANS} use `precision=fp32`.",
}
"""What to do where a parity check fails, by precision."""

TIMING_ROUNDS = 5
"""Interleaved runs of two graphs, to measure which one is faster."""

MIN_SPEEDUP = 1.5
"""Least speed-up over fp32 for which ``auto`` chooses a lower precision: less is not worth other probabilities."""


def compile_model(job: CompileJob, options: CompileOptions) -> CompileResult:
    """Rewrite, lower, check and write.

    Raises
    ------
    ModelError, CheckFailedError, UsageError, ProviderError
        As `make_variant` and `write_verified_model`; with ``auto``, those of the last precision tried.
    """
    if options.precision != "auto":
        return _write_variant(job, options, _make_job_variant(job, options))
    rejected: dict[str, str] = {}
    *tried, last = AUTO_PRECISIONS[options.target]
    for precision in tried:
        LOGGER.info("trying %s ...", precision)
        try:
            return _compile_candidate(job, replace(options, precision=precision), rejected)
        except (CheckFailedError, ModelError, ProviderError) as error:
            rejected[precision] = str(error)
            LOGGER.info("%s is not chosen: %s", precision, error)
    chosen = replace(options, precision=last)
    return _write_variant(_with_precision_choice(job, last, rejected), chosen, _make_job_variant(job, chosen))


def _compile_candidate(job: CompileJob, options: CompileOptions, rejected: dict[str, str]) -> CompileResult:
    variant = _make_job_variant(job, options)
    choice: dict[str, Any] = {}
    if options.target == "cpu":  # the target of the machine that measures
        choice["times_the_speed_of_fp32"] = _measure_speedup(
            variant, _make_job_variant(job, replace(options, precision="fp32")), job.contract
        )
    return _write_variant(_with_precision_choice(job, variant.precision, rejected, choice), options, variant)


def _with_precision_choice(
    job: CompileJob, chosen: Precision, rejected: dict[str, str], more: dict[str, Any] | None = None
) -> CompileJob:
    choice = {"asked": "auto", "chosen": chosen, "not_taken": dict(rejected), **(more or {})}
    return replace(job, provenance={**job.provenance, "precision_choice": choice})


def _make_job_variant(job: CompileJob, options: CompileOptions) -> GraphVariant:
    if options.level != "none":
        LOGGER.info("rewriting at level %s for %s ...", options.level, options.target)
    rewritten = rewrite_graph(job.source_graph, options)
    return make_variant(job.source_graph, rewritten, options, job.contract, job.calibration)


def _write_variant(job: CompileJob, options: CompileOptions, variant: GraphVariant) -> CompileResult:
    limit = variant.tolerance.probability if job.dataset.limit is None else job.dataset.limit
    history = CompileHistory(job.source_graph, options, variant, job.contract, job.find_layer)
    volumes = job.calibration.check_disjoint(job.dataset.volumes) if job.calibration else job.dataset.volumes
    return write_verified_model(
        replace(
            job,
            provenance=_merge_passes(job.provenance, variant.provenance),
            dataset=replace(job.dataset, volumes=volumes, limit=limit),
        ),
        variant,
        required=("cpu", options.target),
        locate_failure=lambda failure: _explain_failure(job, history, failure, limit),
    )


def _explain_failure(job: CompileJob, history: CompileHistory, failure: ParityFailure, limit: float) -> str:
    LOGGER.info("looking for what causes the difference on %s ...", failure.provider)
    cause = bisect_failure(history, job.reference(failure.volume), failure, limit)
    return f"{cause}{REMEDIES.get(history.options.precision, '')}"


def _merge_passes(provenance: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """Passes of an earlier rewriting come first, then those of this one; a graph left alone keeps its level."""
    merged = {**provenance, **made, "passes": [*provenance.get("passes", []), *made.get("passes", [])]}
    if "optimize" in provenance and made.get("optimize", {}).get("level") == "none":
        merged["optimize"] = provenance["optimize"]
    return merged


def _measure_speedup(variant: GraphVariant, fp32: GraphVariant, contract: Contract) -> float:
    """Speed-up over the fp32 graph; a `ModelError` if it is less than `MIN_SPEEDUP`."""
    volume = make_phantom_volume(1, contract.shape).reshape(1, *contract.input_shape)
    names = [variant.proto.graph.output[0].name]
    outputs = IntermediateOutputs(variant.proto, names), IntermediateOutputs(fp32.proto, names)
    rounds = [[_time_inference(graph, volume) for graph in outputs] for _ in range(TIMING_ROUNDS + 1)][1:]
    ratio = round(statistics.median(full / lower for lower, full in rounds), 2)
    if ratio < MIN_SPEEDUP:
        raise ModelError(f"it runs at {ratio} times the speed of fp32 here; less than {MIN_SPEEDUP} is not worth it")
    return ratio


def _time_inference(outputs: IntermediateOutputs, volume: NDArray[np.float32]) -> float:
    begin = time.perf_counter()
    for _ in outputs.tensors(volume):
        pass
    return time.perf_counter() - begin
