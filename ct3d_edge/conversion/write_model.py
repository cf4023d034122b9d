"""The last steps of every model file: add contract, golden test and provenance, check parity, write."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.extra_outputs.gradcam_output import check_gradcam_output
from ct3d_edge.conversion.fused_io.fuse import FUSED_IO_ATOL, add_fused_io
from ct3d_edge.conversion.graph_variant import GraphVariant
from ct3d_edge.conversion.parity.accuracy_bisect import FindFaultyLayer
from ct3d_edge.conversion.parity.parity_data import CalibrationData, ParityDataset
from ct3d_edge.conversion.parity.parity_report import ParityReport, ReferenceFn
from ct3d_edge.conversion.parity.provider_parity import (
    LocateFailure,
    ProviderScreening,
    check_all_providers,
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

LOGGER = logging.getLogger(__name__)

MAX_GOLDEN_TOLERANCE = 0.1
"""Largest tolerance of a golden test, in probabilities and in parts of a tensor's spread."""

MAX_FP32_GOLDEN_TOLERANCE, FP32_TOLERANCE_FACTOR = 1e-3, 3
"""In float32 the tolerance is this many times the difference at export, up to the maximum, if that is more than the
tolerance of every golden test: probabilities of inputs of which a network is unsure vary more between machines."""

TENSOR_TOLERANCE_FACTOR = 10
"""The tolerance of tensors is this many times the largest mean difference in the parity check. That is relative to the
largest magnitude, which is several times the spread."""

FUSED_IO_TOLERANCE_DIVISOR = 10
"""In a lower precision, preprocessing inside the file may use one of so many parts of the limit of the precision."""


@dataclass(frozen=True, eq=False)
class CompileJob:
    """Everything that is needed to compile a graph into a model file.

    Parameters
    ----------
    out
        The file to write.
    source_graph
        The float32 graph before any pass.
    contract, golden, provenance
        Metadata of the file.
    reference, dataset
        The reference of the parity check, and its volumes, which can be iterated more than once.
    providers
        Providers on which the file is checked.
    calibration
        Volumes on which a lower precision is calibrated.
    find_layer
        Finds the Keras layer that was converted wrongly, after a failed parity check.
    fused_io_scans
        Scans on which preprocessing inside the file is checked; None for a file without.
    """

    out: Path
    source_graph: onnx.ModelProto
    contract: Contract
    golden: GoldenTest
    provenance: dict[str, Any]
    reference: ReferenceFn
    dataset: ParityDataset
    providers: Sequence[ProviderName] = ("cpu",)
    calibration: CalibrationData | None = None
    find_layer: FindFaultyLayer = field(default=lambda _: "")
    fused_io_scans: Iterable[Volume] | None = None


@dataclass(frozen=True, eq=False)
class CompileResult:
    """A written model file and its parity checks.

    Parameters
    ----------
    model
        The file.
    parity
        Parity report on the CPU.
    parity_reports
        Those of every provider, and of simulated float16.
    fused_io_parity
        That of the preprocessing inside the file, if there is one.
    """

    model: ModelFile
    parity: ParityReport
    parity_reports: tuple[ParityReport, ...]
    fused_io_parity: ParityReport | None = None


def write_verified_model(
    job: CompileJob, variant: GraphVariant, *, required: Sequence[str], locate_failure: LocateFailure
) -> CompileResult:
    """Add metadata to a graph, check it against the reference on every provider, and write it if it passes.

    A provider that is not among the ``required`` ones and cannot run the graph, or fails the parity check, is logged
    and recorded in the provenance (``not_for``): sessions on it are refused.

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
    golden = job.golden
    if golden.uses_first_recipe:
        LOGGER.info("choosing inputs for the golden test ...")
        golden = renew_golden_test(golden, job.reference, job.contract)
    golden = replace(golden, tensors=())
    provenance = {**job.provenance, "nodes": len(variant.proto.graph.node)}
    model = _with_metadata(job, variant, golden, provenance)
    LOGGER.info("checking parity on %s ...", ", ".join(job.providers))
    parity = check_all_providers(
        model, variant, job.reference, job.dataset, ProviderScreening(required), job.providers, locate_failure
    )
    _check_gradcam_output(model, provenance)
    provenance |= parity.to_provenance()
    golden = complete_golden_test(golden, model, parity.reports, lower=variant.has_reduced_precision)
    model = _with_metadata(job, variant, golden, provenance)
    _check_golden(model)
    fused_io_parity = None
    if job.fused_io_scans is not None:
        LOGGER.info("embedding the preprocessing ...")
        model, fused_io_parity = add_fused_io(model, job.fused_io_scans, limit=_fused_io_tolerance(model, variant))
    with atomic_file(job.out) as stream:
        stream.write(model.data)
    return CompileResult(model, parity.reports[0], parity.reports, fused_io_parity)


def _with_metadata(job: CompileJob, variant: GraphVariant, golden: GoldenTest, provenance: dict[str, Any]) -> ModelFile:
    attach_metadata(variant.proto, job.contract, golden, provenance)
    return parse_graph(job.out, variant.proto)


def complete_golden_test(
    golden: GoldenTest, model: ModelFile, parity_reports: Sequence[ParityReport], *, lower: bool
) -> GoldenTest:
    """Add tensors, computed on the CPU, and tolerances from the parity reports to the golden test of a checked file.

    Parameters
    ----------
    golden
        With the probabilities of the source.
    model
        The file; it holds that test.
    parity_reports
        Reports of the parity check.
    lower
        Whether the file has a lower precision than its source. Then the test expects the probabilities of the file
        itself: a tolerance that covers the loss of precision would also cover other faults.
    """
    with Runner(model, SessionRequest("cpu")) as runner:
        tensors = sketch_tensors(runner)
        probabilities = np.vstack([runner.infer(volume[None]) for volume in golden.volumes(model.contract.shape)])
    means = [parity.tensors.mean for parity in parity_reports if parity.tensors is not None]
    measured = TENSOR_TOLERANCE_FACTOR * max((mean for mean in means if np.isfinite(mean)), default=0.0)
    tensor_tolerance = min(MAX_GOLDEN_TOLERANCE, max(TENSOR_TOLERANCE, measured, golden.tensor_tolerance))
    completed = replace(golden, tensors=tensors, tensor_tolerance=tensor_tolerance)
    if lower:
        expected = tuple(tuple(float(p) for p in row) for row in probabilities)
        moved = max(parity.probability_difference for parity in parity_reports)
        return replace(
            completed,
            expected=expected,
            tolerance=min(MAX_GOLDEN_TOLERANCE, max(golden.tolerance, parity_reports[0].limit, moved)),
        )
    difference = float(np.abs(probabilities - np.asarray(golden.expected)).max())
    return replace(
        completed, tolerance=max(golden.tolerance, min(MAX_FP32_GOLDEN_TOLERANCE, FP32_TOLERANCE_FACTOR * difference))
    )


def renew_golden_test(golden: GoldenTest, reference: ReferenceFn, contract: Contract) -> GoldenTest:
    """Replace a golden test that passes by one whose inputs are chosen for the network.

    Raises
    ------
    CheckFailedError
        The old test does not pass: with a new test a damaged file would.
    """
    found = np.stack([reference(volume) for volume in golden.volumes(contract.shape)])
    difference = float(np.abs(found - np.asarray(golden.expected)).max())
    if not difference <= golden.tolerance:
        raise CheckFailedError(
            f"The golden test of the given file failed: probability differs by {difference:.1e}, tolerance "
            f"{golden.tolerance:.0e}. The file was changed, or exported on a machine of another kind. No file was "
            "written."
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
            f"The golden test failed on the machine that made it: {'; '.join(outcome.describe('cpu'))}. "
            "No file was written."
        )
