"""Export a Keras model: convert it to ONNX, rewrite and check the graph, write the model file."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ct3d_edge.conversion.compiler import compile_model
from ct3d_edge.conversion.converter import Converter, load_converter
from ct3d_edge.conversion.extra_outputs.gradcam_output import trace_feature_grid
from ct3d_edge.conversion.extra_outputs.pooled_output import add_checked_pooled_output
from ct3d_edge.conversion.graph_variant import CompileOptions
from ct3d_edge.conversion.keras_loader import RUN_MODEL_NAME, KerasSource
from ct3d_edge.conversion.parity.accuracy_bisect import find_faulty_layer
from ct3d_edge.conversion.parity.parity_data import CalibrationData, ParityDataset
from ct3d_edge.conversion.write_model import CompileJob, CompileResult
from ct3d_edge.errors import UsageError
from ct3d_edge.modelfile.comparison_evidence import RUN_COMPARISON, read_run_evidence
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.golden_search import make_golden_test
from ct3d_edge.system.atomic_write import require_writable
from ct3d_edge.system.machine import find_installed_version

LOGGER = logging.getLogger(__name__)

RECORDED_PACKAGES = ("ct3d-edge", "tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "onnx-ir", "numpy")


def export_model(
    source: KerasSource,
    out: Path,
    dataset: ParityDataset,
    *,
    options: CompileOptions | None = None,
    calibration: CalibrationData | None = None,
    providers: Sequence[ProviderName] = ("cpu",),
    fused_io_scans: Iterable[Volume] | None = None,
    converter: Converter = "tf2onnx",
) -> CompileResult:
    """Write a Keras network as a checked, self-describing ONNX file.

    Parameters
    ----------
    source
        From `load_keras_source`.
    out
        The file to write; replaced only by a checked one.
    dataset
        Volumes for the parity check.
    options
        How the graph is rewritten, and its precision; `CompileOptions()` if None.
    calibration
        Volumes on which a lower precision is calibrated.
    providers
        Providers on which the file is checked.
    fused_io_scans
        Scans on which preprocessing inside the file is checked, see `add_fused_io`; None for a file without.
    converter
        What makes the ONNX graph of the network.

    Raises
    ------
    ContractError
        The contract holds feature statistics, and the network pools no features.
    ModelError
        The converter, the passes or ONNX Runtime cannot handle the network.
    CheckFailedError
        The parity check failed; nothing is written.
    UsageError
        Too few volumes, or ``out`` is the source or cannot be written.
    """
    if out.resolve() == source.path.resolve():
        raise UsageError(f"{out} is the Keras model itself. Name another file to write.")
    require_writable(out)
    LOGGER.info("converting ...")
    converted, contract = add_checked_pooled_output(load_converter(converter)(source.network, source.contract), source)
    job = CompileJob(
        out,
        converted,
        contract,
        make_golden_test(source.probabilities, contract.shape),
        {**_provenance(source, converter), **trace_feature_grid(converted, contract)},
        source.probabilities,
        dataset,
        providers,
        calibration,
        lambda volume: find_faulty_layer(source.network, contract, volume, converter),
        fused_io_scans,
    )
    return compile_model(job, options or CompileOptions())


def _provenance(source: KerasSource, converter: Converter) -> dict[str, Any]:
    return {
        "source": {
            "file": source.path.name,
            "sha256": source.sha256,
            "parameters": source.network.count_params(),
        },
        "converter": converter,
        "tools": {name: version for name in RECORDED_PACKAGES if (version := find_installed_version(name))},
        **_comparison(source),
    }


def _comparison(source: KerasSource) -> dict[str, Any]:
    """The comparison with another model that a training run holds, if it is of these weights."""
    file = source.path.with_name(RUN_COMPARISON)
    if source.path.name != RUN_MODEL_NAME or not file.is_file():
        return {}
    evidence = read_run_evidence(file)
    if evidence.model_sha256 != source.sha256:
        LOGGER.warning("%s is of another model than %s, and is left out of the file", file, source.path)
        return {}
    return {"comparison": evidence.to_dict()}
