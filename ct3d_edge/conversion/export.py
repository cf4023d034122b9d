"""Keras to a model file: convert, rewrite, prove, and only then write."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.conversion.accuracy_bisect import layer_to_blame
from ct3d_edge.conversion.compile_options import Plan
from ct3d_edge.conversion.compiler import Job, build
from ct3d_edge.conversion.gradcam_output import cells_in
from ct3d_edge.conversion.keras_loader import Source, to_onnx
from ct3d_edge.conversion.pooled_output import with_proven_features
from ct3d_edge.conversion.precision.calibration_data import Calibration
from ct3d_edge.conversion.write_model import Exported
from ct3d_edge.errors import UsageError
from ct3d_edge.providers.names import ProviderName
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.golden_search import make_golden
from ct3d_edge.system.atomic_write import require_writable
from ct3d_edge.system.machine import installed_version

TOOLS = ("ct3d-edge", "tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "onnx-ir", "numpy")


def export_model(
    source: Source,
    out: Path,
    volumes: Iterable[NDArray[np.float32]],
    *,
    material: str,
    limit: float | None = None,
    truth: Sequence[int] | None = None,
    plan: Plan | None = None,
    calibration: Calibration | None = None,
    providers: Sequence[ProviderName] = ("cpu",),
    embed_on: Iterable[Volume] | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Write ``source`` as a proven, self-describing ONNX file.

    Parameters
    ----------
    source
        From ``load_source``.
    out
        The file to write; replaced only by a proven one.
    volumes, material, limit, truth
        For the proof: network inputs, what they are in words, largest difference of a probability (that of the
        precision if None), and the class of each, if it is known.
    plan
        How the graph is rewritten; the default plan if None.
    calibration
        What a lower precision is calibrated on.
    providers
        On which the file is proven.
    embed_on
        Put the preprocessing into the file and prove that on these scans, see `embedding.embedded`; not if None.
    on_stage
        Told what is being done.

    Raises
    ------
    ContractError
        The contract holds statistics of features that the network does not pool.
    ModelError
        tf2onnx, the passes or ONNX Runtime cannot handle the network.
    GateError
        The proof does not hold; nothing is written.
    UsageError
        Too few volumes, or ``out`` is the source or cannot be written.
    """
    if out.resolve() == source.path.resolve():
        raise UsageError(f"{out} is the Keras model itself. Name another file to write.")
    require_writable(out)
    on_stage("converting")
    converted, contract = with_proven_features(to_onnx(source.network, source.contract), source, on_stage)
    job = Job(
        out,
        converted,
        contract,
        make_golden(source.probabilities, contract.shape),
        {**_provenance(source), **cells_in(converted, contract)},
        source.probabilities,
        volumes,
        material,
        limit,
        truth,
        providers,
        calibration,
        on_stage,
        lambda volume: layer_to_blame(source.network, contract, volume),
        embed_on,
    )
    return build(job, plan or Plan())


def _provenance(source: Source) -> dict[str, Any]:
    return {
        "source": {
            "file": source.path.name,
            "sha256": source.sha256,
            "parameters": source.network.count_params(),
        },
        "tools": {name: version for name in TOOLS if (version := installed_version(name))},
    }
