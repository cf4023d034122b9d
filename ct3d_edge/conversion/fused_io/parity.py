"""Does the preprocessing in the file do what the preprocessing in NumPy does? The second gate of such a file."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from ct3d_edge.conversion.fused_io.fuse import embed
from ct3d_edge.conversion.parity import Proof, require
from ct3d_edge.modelfile.model_file import PROVENANCE_KEY, ModelFile, parse_model_file
from ct3d_edge.preprocess import preprocess
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.runner import Runner

LIMIT = 2e-5
"""Largest difference of a probability."""

Told = dict[str, object]
"""What a scan was, for the provenance."""


def embedded(model: ModelFile, scans: Iterable[Volume], *, limit: float = LIMIT) -> tuple[ModelFile, Proof]:
    """A model file with the preprocessing inside, and its proof against NumPy's and the file it is made from.

    Parameters
    ----------
    model
        A proven file that takes network inputs.
    scans
        At least eight, stored as int16, of several sizes and with slopes and intercepts that do something; they lie in
        the contract's orientation.
    limit
        Largest difference of a probability; in fewer bits, the last bit of an input becomes a whole step.

    Raises
    ------
    ModelError
        The graph is too old, or ONNX Runtime cannot run the result.
    GateError
        The two answer differently.
    UsageError
        Too few scans.
    """
    proto = embed(model)
    proof, told = prove_embedding(proto, model, scans, limit)
    return _parsed(model.path, _with_provenance(proto, model, {**proof.to_dict(), "scans": told})), proof


def prove_embedding(
    proto: onnx.ModelProto, model: ModelFile, scans: Iterable[Volume], limit: float = LIMIT
) -> tuple[Proof, list[Told]]:
    """Compare a graph that takes stored voxels with NumPy's preprocessing and a model; what the scans were, too.

    Raises
    ------
    ModelError, GateError, UsageError
        As `embedded`.
    """
    pairs, told = [], []
    with Runner(_parsed(model.path, proto), "cpu") as inside, Runner(model, "cpu") as outside:
        for scan in scans:
            expected = outside.infer(preprocess(scan, model.contract).volume[None])[0]
            found = inside.infer_stored(np.ascontiguousarray(scan.stored.T), scan.slope, scan.intercept)
            pairs.append((expected, found))
            told.append({"shape": list(scan.shape), "slope": scan.slope, "intercept": scan.intercept})
        proof = Proof.of(pairs, inside, material="scans as stored, against NumPy's preprocessing", limit=limit)
    require(proof)
    return proof, told


def _parsed(path: Path, proto: onnx.ModelProto) -> ModelFile:
    return parse_model_file(path, proto.SerializeToString(deterministic=True), stored_voxels=True)


def _with_provenance(proto: onnx.ModelProto, model: ModelFile, proof: Told) -> onnx.ModelProto:
    provenance = {**model.provenance, "nodes": len(proto.graph.node), "embedded_preprocessing": proof}
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    properties[PROVENANCE_KEY] = json.dumps(provenance, sort_keys=True, separators=(",", ":"))
    onnx.helper.set_model_props(proto, properties)
    return proto
