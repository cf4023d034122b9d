"""Keras to a model file: convert, rewrite, prove, and only then write."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.atomic import require_writable
from ct3d_edge.conversion.convert import to_onnx
from ct3d_edge.conversion.deliver import Exported, deliver, make_golden
from ct3d_edge.conversion.explanation import cells_in
from ct3d_edge.conversion.plan import Plan, rewrite
from ct3d_edge.conversion.proof import LIMIT
from ct3d_edge.conversion.source import Source
from ct3d_edge.errors import UsageError
from ct3d_edge.machine import installed_version
from ct3d_edge.scan import Volume

TOOLS = ("ct3d-edge", "tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "onnx-ir", "numpy")


def export_model(
    source: Source,
    out: Path,
    volumes: Iterable[NDArray[np.float32]],
    *,
    material: str,
    limit: float = LIMIT,
    plan: Plan | None = None,
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
    volumes, material, limit
        For the proof: network inputs, what they are in words, largest difference of a probability.
    plan
        How the graph is rewritten; the default plan if None.
    embed_on
        Put the preprocessing into the file and prove that on these scans, see `embedding.embedded`; not if None.
    on_stage
        Told what is being done.

    Raises
    ------
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
    converted = to_onnx(source.network, source.contract)
    rewritten = rewrite(converted, plan or Plan(), on_stage=on_stage)
    provenance = {**_provenance(source), **cells_in(converted, source.contract), **rewritten.provenance}
    golden = make_golden(source.probabilities, source.contract)
    return deliver(
        out,
        rewritten.proto,
        source.contract,
        golden,
        provenance,
        source.probabilities,
        volumes,
        material=material,
        limit=limit,
        embed_on=embed_on,
        on_stage=on_stage,
    )


def _provenance(source: Source) -> dict[str, Any]:
    return {
        "source": {
            "file": source.path.name,
            "sha256": source.sha256,
            "parameters": source.network.count_params(),
        },
        "tools": {name: version for name in TOOLS if (version := installed_version(name))},
    }
