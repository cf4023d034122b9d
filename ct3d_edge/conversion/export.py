"""Keras to a model file: convert, attach contract, golden test and provenance, prove, and only then write."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.atomic import atomic_file, require_writable
from ct3d_edge.contract import Contract
from ct3d_edge.conversion.convert import to_onnx
from ct3d_edge.conversion.proof import LIMIT, Proof, keras_probabilities, prove
from ct3d_edge.conversion.source import Source
from ct3d_edge.errors import GateError, UsageError
from ct3d_edge.machine import installed_version
from ct3d_edge.runtime import (
    CONTRACT_KEY,
    GOLDEN_KEY,
    PROVENANCE_KEY,
    RECIPE,
    Golden,
    ModelFile,
    Runner,
    golden_volume,
    parse_model_file,
    verify,
)

GOLDEN_SEEDS = (1, 2)
GOLDEN_TOLERANCE = 1e-4
"""Wider than the proof's limit: other processors add up in another order."""

TOOLS = ("ct3d-edge", "tensorflow", "tensorflow-cpu", "keras", "tf2onnx", "onnx", "numpy")


@dataclass(frozen=True, eq=False)
class Exported:
    """A written model file and its proof."""

    model: ModelFile
    proof: Proof


def export_model(
    source: Source,
    out: Path,
    volumes: Iterable[NDArray[np.float32]],
    *,
    material: str,
    limit: float = LIMIT,
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
    on_stage
        Told what is being done.

    Raises
    ------
    ModelError
        tf2onnx or ONNX Runtime cannot handle the network.
    GateError
        The proof does not hold; nothing is written.
    UsageError
        Too few volumes, or ``out`` is the source or cannot be written.
    """
    if out.resolve() == source.path.resolve():
        raise UsageError(f"{out} is the Keras model itself. Name another file to write.")
    require_writable(out)
    on_stage("converting")
    proto = to_onnx(source.network, source.contract)
    golden = make_golden(source)
    provenance = _provenance(source, proto)
    attach(proto, source.contract, golden, provenance)
    on_stage("proving")
    with Runner(parse_model_file(out, proto.SerializeToString(deterministic=True)), "cpu") as runner:
        proof = prove(source.network, runner, volumes, material=material, limit=limit)
        provenance["proof"] = {**proof.to_dict(), "onnxruntime": runner.receipt.onnxruntime}
    attach(proto, source.contract, golden, provenance)
    model = parse_model_file(out, proto.SerializeToString(deterministic=True))
    _check_golden(model)
    on_stage("writing")
    with atomic_file(out) as stream:
        stream.write(model.data)
    return Exported(model, proof)


def attach(proto: onnx.ModelProto, contract: Contract, golden: Golden, provenance: dict[str, Any]) -> None:
    """Write contract, golden test and provenance into a graph's metadata, in place of what was there."""
    onnx.helper.set_model_props(
        proto,
        {
            CONTRACT_KEY: contract.to_json(),
            GOLDEN_KEY: golden.to_json(),
            PROVENANCE_KEY: json.dumps(provenance, sort_keys=True, separators=(",", ":")),
        },
    )


def make_golden(source: Source) -> Golden:
    """Let Keras answer the golden inputs: what a device proves is that it does what was trained."""
    contract = source.contract
    answers = [
        keras_probabilities(source.network, golden_volume(seed, contract.shape), contract) for seed in GOLDEN_SEEDS
    ]
    expected = tuple(tuple(float(p) for p in answer) for answer in answers)
    return Golden(RECIPE, GOLDEN_SEEDS, expected, GOLDEN_TOLERANCE)


def _provenance(source: Source, proto: onnx.ModelProto) -> dict[str, Any]:
    return {
        "source": {
            "file": source.path.name,
            "sha256": source.sha256,
            "parameters": source.network.count_params(),
        },
        "tools": {name: version for name in TOOLS if (version := installed_version(name))},
        "passes": [],
        "nodes": len(proto.graph.node),
    }


def _check_golden(model: ModelFile) -> None:
    with Runner(model, "cpu") as runner:
        outcome = verify(runner)
    if not outcome.holds:
        raise GateError(
            f"The golden test does not hold on the machine that made it: probability differs by "
            f"{outcome.largest_difference:.1e}, tolerance {outcome.tolerance:.0e}. No file was written."
        )
