"""The last steps of every model file: add contract, golden test and provenance, check parity, write."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.fused_io.parity import FUSED_IO_ATOL, add_fused_io
from ct3d_edge.conversion.gradcam_output import check_gradcam_output
from ct3d_edge.conversion.graph_variant import GraphVariant
from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.conversion.parity.parity_report import ParityReport, ReferenceFn
from ct3d_edge.conversion.parity.provider_parity import (
    LocateFailure,
    ProviderScreening,
    check_all_providers,
    has_reduced_precision,
)
from ct3d_edge.errors import CheckFailedError
from ct3d_edge.modelfile.golden_test import GoldenTest
from ct3d_edge.modelfile.model_file import ModelFile, attach_metadata, parse_graph
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.golden_search import make_golden_test
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import TENSOR_TOLERANCE, run_golden_test, sketch_tensors
from ct3d_edge.system.atomic_write import atomic_file

MAX_GOLDEN_TOLERANCE = 0.1
"""No tolerance of a golden test is wider, in probabilities or in parts of a tensor's spread."""

MAX_FP32_GOLDEN_TOLERANCE, FP32_TOLERANCE_FACTOR = 1e-3, 3
"""In float32 so many times the difference that was found where the file was made is allowed, up to the cap, if that is
more than the tolerance that every golden test has: of inputs of which it is unsure, a network answers less exactly."""

TENSOR_TOLERANCE_FACTOR = 10
"""So many times the largest mean difference of a tensor in the parity check is allowed: that is a part of the largest
magnitude, which is several times the spread."""

FUSED_IO_TOLERANCE_DIVISOR = 10
"""In fewer bits, the preprocessing inside may take one of so many parts of the limit that the precision has."""


@dataclass(frozen=True, eq=False)
class CompileResult:
    """A written model file and its parity checks.

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
    dataset: ParityDataset,
    *,
    providers: Sequence[ProviderName] = ("cpu",),
    required: Sequence[str] = ("cpu",),
    locate_failure: LocateFailure = lambda _: "",
    fused_io_scans: Iterable[Volume] | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> CompileResult:
    """Complete a graph, check it against ``reference`` on every provider, and only then write it.

    A provider that is not among the ``required`` ones and cannot run the graph, or answers wrongly, is told to
    ``on_stage`` and noted in the provenance (``not_for``): sessions on it are refused.

    With ``fused_io_scans``, what is written has the preprocessing inside, and is checked on these scans as well.

    Raises
    ------
    ModelError
        ONNX Runtime cannot run the graph.
    ProviderError
        A required provider does not run all of it.
    CheckFailedError
        The parity check on a required provider or the golden test failed; nothing is written.
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
        on_stage(f"it is checked on {', '.join(providers)}")
    on_stage("checking parity")
    screening = ProviderScreening(required, on_stage)
    parity_reports, onnxruntime, pooled = check_all_providers(
        out, variant, contract, golden, reference, dataset, providers, locate_failure, screening
    )
    _check_gradcam_output(parse_graph(out, proto), provenance)
    provenance["proof"] = {**parity_reports[0].to_dict(), **pooled, "onnxruntime": onnxruntime}
    if screening.excluded:
        provenance["not_for"] = screening.excluded
    if len(parity_reports) > 1:
        provenance["further_proofs"] = [parity.to_dict() for parity in parity_reports[1:]]
    attach_metadata(proto, contract, golden, provenance)
    golden = complete_golden_test(golden, parse_graph(out, proto), parity_reports, lower=has_reduced_precision(variant))
    attach_metadata(proto, contract, golden, provenance)
    model = parse_graph(out, proto)
    _check_golden(model)
    embedding = None
    if fused_io_scans is not None:
        on_stage("embedding the preprocessing")
        model, embedding = add_fused_io(model, fused_io_scans, limit=_fused_io_tolerance(model, variant))
    on_stage("writing")
    with atomic_file(out) as stream:
        stream.write(model.data)
    return CompileResult(model, parity_reports[0], parity_reports, embedding)


def complete_golden_test(
    golden: GoldenTest, model: ModelFile, parity_reports: Sequence[ParityReport], *, lower: bool
) -> GoldenTest:
    """The golden test of a checked file: records tensors on the CPU; tolerances follow from the parity reports.

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
        is what was checked here, and a tolerance that covered the lost bits would cover other faults too.
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
    CheckFailedError
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


def _fused_io_tolerance(model: ModelFile, variant: GraphVariant) -> float:
    return FUSED_IO_ATOL if model.arithmetic == "fp32" else variant.tolerance.probability / FUSED_IO_TOLERANCE_DIVISOR


def _check_gradcam_output(model: ModelFile, provenance: dict[str, Any]) -> None:
    if model.features is not None:
        with Runner(model, SessionRequest("cpu", gradcam=True)) as runner:
            check_gradcam_output(runner, provenance)


def _check_golden(model: ModelFile) -> None:
    with Runner(model, SessionRequest("cpu")) as runner:
        outcome = run_golden_test(runner)
    if not outcome.passed:
        raise CheckFailedError(
            f"The golden test does not hold on the machine that made it: {'; '.join(outcome.describe('cpu'))}. "
            "No file was written."
        )
