"""The last steps of every model file: contract, golden test and provenance go in, it is proven, then written."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.atomic import atomic_file
from ct3d_edge.contract import Contract
from ct3d_edge.conversion.embedding import embedded
from ct3d_edge.conversion.explanation import require_explanation
from ct3d_edge.conversion.proof import Proof, Reference, prove
from ct3d_edge.errors import GateError
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
from ct3d_edge.scan import Volume

GOLDEN_SEEDS = (1, 2)
GOLDEN_TOLERANCE = 1e-4
"""Wider than the proof's limit: other processors add up in another order."""


@dataclass(frozen=True, eq=False)
class Exported:
    """A written model file and its proof; if it has the preprocessing inside, the proof of that as well."""

    model: ModelFile
    proof: Proof
    embedding: Proof | None = None


def deliver(
    out: Path,
    proto: onnx.ModelProto,
    contract: Contract,
    golden: Golden,
    provenance: dict[str, Any],
    reference: Reference,
    volumes: Iterable[NDArray[np.float32]],
    *,
    material: str,
    limit: float,
    embed_on: Iterable[Volume] | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Complete a graph, prove it against ``reference``, and only then write it.

    With ``embed_on``, what is written has the preprocessing inside, and is proven on these scans as well.

    Raises
    ------
    ModelError
        ONNX Runtime cannot run the graph.
    GateError
        The proof or the golden test does not hold; nothing is written.
    UsageError
        Too few volumes.
    """
    provenance = {**provenance, "nodes": len(proto.graph.node)}
    attach(proto, contract, golden, provenance)
    on_stage("proving")
    built = parse_model_file(out, proto.SerializeToString(deterministic=True))
    with Runner(built, "cpu", explain=built.features is not None) as runner:
        require_explanation(runner, provenance)
        proof = prove(reference, runner, volumes, material=material, limit=limit)
        provenance["proof"] = {**proof.to_dict(), "onnxruntime": runner.receipt.onnxruntime}
    attach(proto, contract, golden, provenance)
    model = parse_model_file(out, proto.SerializeToString(deterministic=True))
    _check_golden(model)
    embedding = None
    if embed_on is not None:
        on_stage("embedding the preprocessing")
        model, embedding = embedded(model, embed_on)
    on_stage("writing")
    with atomic_file(out) as stream:
        stream.write(model.data)
    return Exported(model, proof, embedding)


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


def make_golden(reference: Reference, contract: Contract) -> Golden:
    """Let the reference answer the golden inputs: what a device proves is that it does what was trained."""
    answers = [reference(golden_volume(seed, contract.shape)) for seed in GOLDEN_SEEDS]
    expected = tuple(tuple(float(p) for p in answer) for answer in answers)
    return Golden(RECIPE, GOLDEN_SEEDS, expected, GOLDEN_TOLERANCE)


def _check_golden(model: ModelFile) -> None:
    with Runner(model, "cpu") as runner:
        outcome = verify(runner)
    if not outcome.holds:
        raise GateError(
            f"The golden test does not hold on the machine that made it: probability differs by "
            f"{outcome.largest_difference:.1e}, tolerance {outcome.tolerance:.0e}. No file was written."
        )
