"""Rewrite an ONNX file into a faster or smaller one, and check that its predictions are the same."""

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.compiler import compile_model
from ct3d_edge.conversion.extra_outputs.gradcam_output import trace_feature_grid
from ct3d_edge.conversion.graph_variant import CompileOptions
from ct3d_edge.conversion.parity.parity_data import CalibrationData, ParityDataset
from ct3d_edge.conversion.write_model import CompileJob, CompileResult
from ct3d_edge.errors import ContractError, ModelError, UsageError
from ct3d_edge.modelfile.golden_input import FIRST_RECIPE
from ct3d_edge.modelfile.golden_test import GoldenTest
from ct3d_edge.modelfile.model_file import ModelFile, attach_metadata, parse_graph, parse_model_file
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.system.atomic_write import require_writable
from ct3d_edge.system.machine import find_installed_version

FILE_SPECIFIC_KEYS = frozenset({"proof", "further_proofs", "not_for", "precision_choice"})
"""Keys of a provenance that are not inherited by a file made from another one."""

RECORDED_PACKAGES = ("ct3d-edge", "onnx", "onnx-ir", "numpy")


def load_for_compiling(path: Path, contract: Contract | None = None) -> ModelFile:
    """Read a model file; with ``contract``, any ONNX file that the contract describes.

    Raises
    ------
    ModelError
        As `load_model_file`.
    ContractError
        The file has no contract and none is given, or the contract does not fit the graph.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"The model file {path} cannot be read: {error.strerror or error}.") from error
    if contract is None:
        return _parse_with_own_contract(path, data)
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(f"{path} ({len(data):,} bytes) is truncated or not an ONNX file.") from error
    attach_metadata(proto, contract, _placeholder_golden_test(contract), {})
    return parse_graph(path, proto)


def optimize_model(
    model: ModelFile,
    out: Path,
    dataset: ParityDataset,
    *,
    options: CompileOptions | None = None,
    calibration: CalibrationData | None = None,
    providers: Sequence[ProviderName] = ("cpu",),
    fused_io_scans: Iterable[Volume] | None = None,
) -> CompileResult:
    """Rewrite a model file and check the result against it as it runs on ONNX Runtime's CPU provider.

    Parameters
    ----------
    model
        From `load_for_compiling`. The new file has the same contract and the same golden test, except for a test of
        the first recipe, which is replaced.
    out
        The file to write; replaced only by a checked one.
    dataset, options, calibration, providers, fused_io_scans
        As in `export_model`.

    Raises
    ------
    ModelError
        The graph cannot be rewritten or run.
    CheckFailedError
        The parity check failed; nothing is written.
    UsageError
        Too few volumes, or ``out`` is the model itself or cannot be written.
    """
    if out.resolve() == model.path.resolve():
        raise UsageError(f"{out} is the model itself. Name another file to write.")
    require_writable(out)
    _require_fp32(model, options or CompileOptions())
    graph = onnx.ModelProto.FromString(model.data)
    with ExitStack() as stack:
        # Opened by the parity check: for a graph that cannot be rewritten, the passes raise first and name the node.
        runner = cache(lambda: stack.enter_context(Runner(model, SessionRequest("cpu"))))
        job = CompileJob(
            out,
            graph,
            model.contract,
            model.golden,
            {**trace_feature_grid(graph, model.contract), **_inherit_provenance(model), **_provenance(model)},
            lambda volume: runner().infer(volume[None])[0],
            dataset,
            providers,
            calibration,
            fused_io_scans=fused_io_scans,
        )
        return compile_model(job, options or CompileOptions())


def _inherit_provenance(model: ModelFile) -> dict[str, Any]:
    """Provenance that stays true of a file made from another one."""
    return {key: value for key, value in model.provenance.items() if key not in FILE_SPECIFIC_KEYS}


def _require_fp32(model: ModelFile, options: CompileOptions) -> None:
    """Refuse to convert a file of lower precision again: every step would add its error."""
    precision = model.provenance.get("precision", {})
    if precision and (options.level, options.precision, options.weight_dtype) != ("none", "fp32", "fp32"):
        weights = f" with weights in {precision['weights']}" if "weights" in precision else ""
        raise ModelError(
            f"{model.path} computes in {precision.get('arithmetic')}{weights} already. Rewrite the fp32 "
            "file that it was made from."
        )


def _parse_with_own_contract(path: Path, data: bytes) -> ModelFile:
    try:
        return parse_model_file(path, data)
    except ContractError as error:
        raise ContractError(f"{error} Or give one: `contract=CONTRACT.json`") from error


def _placeholder_golden_test(contract: Contract) -> GoldenTest:
    """A golden test that any prediction passes, of the first recipe, so that it is replaced."""
    row = (0.0,) * len(contract.labels)
    return GoldenTest(FIRST_RECIPE, ((1, 1, 0),), (row,), tolerance=1.0)


def _provenance(model: ModelFile) -> dict[str, Any]:
    return {
        "optimized_from": {
            "file": model.path.name,
            "sha256": hashlib.sha256(model.path.read_bytes()).hexdigest(),
            "tools": {name: version for name in RECORDED_PACKAGES if (version := find_installed_version(name))},
        }
    }
