"""The last steps of every model file: contract, golden test and provenance go in, it is proven, then written."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.accuracy_bisect import ParityFailure
from ct3d_edge.conversion.fused_io.parity import FUSED_IO_ATOL, add_fused_io
from ct3d_edge.conversion.gradcam_output import check_gradcam_output
from ct3d_edge.conversion.graph_variant import GraphVariant
from ct3d_edge.conversion.parity import ParityDataset, ParityReport, ReferenceFn, compare_outputs, require_parity
from ct3d_edge.conversion.pooled_output import check_feature_parity
from ct3d_edge.conversion.provider_parity import ProviderScreening
from ct3d_edge.conversion.tensor_parity import TensorParity, compare_tensors
from ct3d_edge.errors import CheckFailedError, ModelError, ProviderError
from ct3d_edge.modelfile.golden_test import GoldenTest
from ct3d_edge.modelfile.model_file import CONTRACT_KEY, GOLDEN_KEY, PROVENANCE_KEY, ModelFile, parse_model_file
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.golden_search import make_golden_test
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import TENSOR_TOLERANCE, WHOLE_GRAPH_PROVIDERS, run_golden_test, sketch_tensors
from ct3d_edge.system.atomic_write import atomic_file

MAX_GOLDEN_TOLERANCE = 0.1
"""No tolerance of a golden test is wider, in probabilities or in parts of a tensor's spread."""

MAX_FP32_GOLDEN_TOLERANCE, FP32_TOLERANCE_FACTOR = 1e-3, 3
"""In float32 so many times the difference that was found where the file was made is allowed, up to the cap, if that is
more than the tolerance that every golden test has: of inputs of which it is unsure, a network answers less exactly."""

TENSOR_TOLERANCE_FACTOR = 10
"""So many times the largest mean difference of a tensor in the proof is allowed: that is a part of the largest
magnitude, which is several times the spread."""

MAX_TENSOR_VOLUMES = 2
"""Of the proof, on how many the tensors between input and output are compared."""

FUSED_IO_TOLERANCE_DIVISOR = 10
"""In fewer bits, the preprocessing inside may take one of so many parts of the limit that the precision has."""

LocateFailure = Callable[[ParityFailure], str]
"""Where a proof fails, to a sentence that names the step and node that make the difference."""


@dataclass(frozen=True, eq=False)
class CompileResult:
    """A written model file and its proofs.

    Parameters
    ----------
    model
        The file.
    parity
        On the CPU.
    parity_reports
        All: of every provider, and of a rehearsal.
    fused_io_parity
        Of the preprocessing inside, if it has that.
    """

    model: ModelFile
    parity: ParityReport
    parity_reports: tuple[ParityReport, ...]
    fused_io_parity: ParityReport | None = None


def write_verified_model(
    out: Path,
    variant: GraphVariant,
    contract: Contract,
    golden: GoldenTest,
    provenance: dict[str, Any],
    reference: ReferenceFn,
    evidence: ParityDataset,
    *,
    providers: Sequence[ProviderName] = ("cpu",),
    required: Sequence[str] = ("cpu",),
    blame: LocateFailure = lambda _: "",
    embed_on: Iterable[Volume] | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> CompileResult:
    """Complete a graph, prove it against ``reference`` on every provider, and only then write it.

    A provider that is not among the ``required`` ones and cannot run the graph, or answers wrongly, is told to
    ``on_stage`` and noted in the provenance (``not_for``): sessions on it are refused.

    With ``embed_on``, what is written has the preprocessing inside, and is proven on these scans as well.

    Raises
    ------
    ModelError
        ONNX Runtime cannot run the graph.
    ProviderError
        A required provider does not run all of it.
    GateError
        The proof on a required provider or the golden test does not hold; nothing is written.
    UsageError
        Too few volumes.
    """
    proto = variant.proto
    if golden.uses_first_recipe:
        on_stage("choosing inputs for the golden test")
        golden = renew_golden_test(golden, reference, contract)
    golden = replace(golden, tensors=())
    provenance = {**provenance, "nodes": len(proto.graph.node)}
    attach_metadata(proto, contract, golden, provenance)
    if len(providers) > 1:
        on_stage(f"it is proven on {', '.join(providers)}")
    on_stage("proving")
    fitness = ProviderScreening(required, on_stage)
    parity_reports, onnxruntime, pooled = _check_all_providers(
        out, variant, contract, golden, reference, evidence, providers, blame, fitness
    )
    _check_gradcam_output(_parse_model(out, proto), provenance)
    provenance["proof"] = {**parity_reports[0].to_dict(), **pooled, "onnxruntime": onnxruntime}
    if fitness.excluded:
        provenance["not_for"] = fitness.excluded
    if len(parity_reports) > 1:
        provenance["further_proofs"] = [parity.to_dict() for parity in parity_reports[1:]]
    attach_metadata(proto, contract, golden, provenance)
    golden = complete_golden_test(
        golden, _parse_model(out, proto), parity_reports, lower=_has_reduced_precision(variant)
    )
    attach_metadata(proto, contract, golden, provenance)
    model = _parse_model(out, proto)
    _check_golden(model)
    embedding = None
    if embed_on is not None:
        on_stage("embedding the preprocessing")
        model, embedding = add_fused_io(model, embed_on, limit=_fused_io_tolerance(model, variant))
    on_stage("writing")
    with atomic_file(out) as stream:
        stream.write(model.data)
    return CompileResult(model, parity_reports[0], parity_reports, embedding)


def attach_metadata(proto: onnx.ModelProto, contract: Contract, golden: GoldenTest, provenance: dict[str, Any]) -> None:
    """Write contract, golden test and provenance into a graph's metadata, in place of what was there."""
    onnx.helper.set_model_props(
        proto,
        {
            CONTRACT_KEY: contract.to_json(),
            GOLDEN_KEY: golden.to_json(),
            PROVENANCE_KEY: json.dumps(provenance, sort_keys=True, separators=(",", ":")),
        },
    )


def complete_golden_test(
    golden: GoldenTest, model: ModelFile, parity_reports: Sequence[ParityReport], *, lower: bool
) -> GoldenTest:
    """The golden test of a proven file: tensors inside are recorded, on the CPU, and tolerances follow from the proofs.

    Parameters
    ----------
    golden
        With the answers of what the file was made from.
    model
        The file; it carries that test.
    parity_reports
        What was measured.
    lower
        Whether it has fewer bits than what it was made from: then it answers for itself, since what a device is to give
        is what was proven here, and a tolerance that covered the lost bits would cover other faults too.
    """
    with Runner(model, SessionRequest("cpu")) as runner:
        tensors = sketch_tensors(runner)
        answers = np.vstack([runner.infer(volume[None]) for volume in golden.volumes(model.contract.shape)])
    means = [parity.tensors.mean for parity in parity_reports if parity.tensors is not None]
    measured = TENSOR_TOLERANCE_FACTOR * max((mean for mean in means if np.isfinite(mean)), default=0.0)
    inside = min(MAX_GOLDEN_TOLERANCE, max(TENSOR_TOLERANCE, measured, golden.tensor_tolerance))
    known = replace(golden, tensors=tensors, tensor_tolerance=inside)
    if lower:
        expected = tuple(tuple(float(p) for p in row) for row in answers)
        moved = max(parity.probability_difference for parity in parity_reports)
        return replace(
            known,
            expected=expected,
            tolerance=min(MAX_GOLDEN_TOLERANCE, max(golden.tolerance, parity_reports[0].limit, moved)),
        )
    apart = float(np.abs(answers - np.asarray(golden.expected)).max())
    return replace(
        known, tolerance=max(golden.tolerance, min(MAX_FP32_GOLDEN_TOLERANCE, FP32_TOLERANCE_FACTOR * apart))
    )


def renew_golden_test(golden: GoldenTest, reference: ReferenceFn, contract: Contract) -> GoldenTest:
    """A golden test with inputs that are chosen for the network, in place of one that still holds.

    Raises
    ------
    GateError
        If it does not: a new test would make a damaged file pass.
    """
    found = np.stack([reference(volume) for volume in golden.volumes(contract.shape)])
    difference = float(np.abs(found - np.asarray(golden.expected)).max())
    if not difference <= golden.tolerance:
        raise CheckFailedError(
            f"The golden test of the given file does not hold: probability differs by {difference:.1e}, tolerance "
            f"{golden.tolerance:.0e}. The file was changed, or is of another kind of machine. No file was written."
        )
    return make_golden_test(reference, contract.shape)


def _has_reduced_precision(variant: GraphVariant) -> bool:
    return variant.precision != "fp32" or "weights" in variant.provenance.get("precision", {})


def _check_all_providers(
    out: Path,
    variant: GraphVariant,
    contract: Contract,
    golden: GoldenTest,
    reference: ReferenceFn,
    evidence: ParityDataset,
    providers: Sequence[ProviderName],
    blame: LocateFailure,
    fitness: ProviderScreening,
) -> tuple[tuple[ParityReport, ...], str, dict[str, Any]]:
    """The proofs of all providers, of a rehearsal behind them, the version of ONNX Runtime, and of pooled features."""
    first: list[NDArray[np.float32]] = []
    watched = replace(evidence, volumes=_record_first(evidence.volumes, first))
    files = [(_parse_model(out, variant.proto), name) for name in providers]
    if variant.fp16_simulated is not None:
        attach_metadata(variant.fp16_simulated, contract, golden, {})
        files.append((_parse_model(out, variant.fp16_simulated), "cpu"))
    with ExitStack() as stack:
        opened = [(fitness.open(file, name, stack), name, number) for number, (file, name) in enumerate(files)]
        running = [(runner, name, number) for runner, name, number in opened if runner is not None]
        compared = compare_outputs(reference, [runner for runner, *_ in running], watched)
        fitness.on_stage("comparing tensors")
        batches = [volume.reshape(1, *contract.input_shape) for volume in first]
        parity_reports, good = [], []
        for decided, worst, (runner, name, number) in zip(
            compared.parity_reports, compared.worst, running, strict=True
        ):
            parity = replace(decided, rehearsed=number >= len(providers))
            ask = partial(blame, ParityFailure(worst, name, parity.rehearsed))
            if not fitness.passes_check(name, partial(require_parity, parity, ask)):
                continue
            if name not in WHOLE_GRAPH_PROVIDERS and (parity.rehearsed or variant.fp16_simulated is None):
                parity = replace(parity, tensors=_compare_tensors_on(variant, batches, name, fitness))
                if not fitness.passes_check(name, partial(require_parity, parity, ask)):
                    continue
            parity_reports.append(parity)
            good.append(runner)
        # Last: a proof that fails tells more, the step to blame and the limit that would have passed.
        pooled = check_feature_parity(variant, good, first)
        return tuple(parity_reports), good[0].run_report.onnxruntime, pooled


def _compare_tensors_on(
    variant: GraphVariant, batches: Iterable[NDArray[np.float32]], on: ProviderName, fitness: ProviderScreening
) -> TensorParity | None:
    """None on a provider that runs the file, but not with its tensors as outputs: the answers are its proof."""
    try:
        return compare_tensors(
            variant.before,
            variant.observed,
            batches,
            limit=variant.limits.tensor,
            tap=partial(IntermediateOutputs, on=on),
        )
    except (ModelError, ProviderError):
        if on in fitness.required:
            raise
        fitness.on_stage(f"{on} does not show its tensors; the proof there is on the answers alone")
        return None


def _record_first(
    volumes: Iterable[NDArray[np.float32]], first: list[NDArray[np.float32]]
) -> Iterator[NDArray[np.float32]]:
    """Pass volumes on and keep the first few."""
    for volume in volumes:
        if len(first) < MAX_TENSOR_VOLUMES:
            first.append(volume)
        yield volume


def _parse_model(out: Path, proto: onnx.ModelProto) -> ModelFile:
    return parse_model_file(out, proto.SerializeToString(deterministic=True))


def _fused_io_tolerance(model: ModelFile, variant: GraphVariant) -> float:
    return FUSED_IO_ATOL if model.arithmetic == "fp32" else variant.limits.probability / FUSED_IO_TOLERANCE_DIVISOR


def _check_gradcam_output(model: ModelFile, provenance: dict[str, Any]) -> None:
    if model.features is not None:
        with Runner(model, SessionRequest("cpu", gradcam=True)) as runner:
            check_gradcam_output(runner, provenance)


def _check_golden(model: ModelFile) -> None:
    with Runner(model, SessionRequest("cpu")) as runner:
        outcome = run_golden_test(runner)
    if not outcome.holds:
        raise CheckFailedError(
            f"The golden test does not hold on the machine that made it: {'; '.join(outcome.describe('cpu'))}. "
            "No file was written."
        )
