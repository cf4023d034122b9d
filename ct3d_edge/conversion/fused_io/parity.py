"""Does the preprocessing in the file do what the preprocessing in NumPy does? The second gate of such a file."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx

from ct3d_edge.conversion.fused_io.fuse import fuse_io
from ct3d_edge.conversion.parity.parity_report import ParityReport, require_parity
from ct3d_edge.modelfile.model_file import PROVENANCE_KEY, ModelFile, parse_model_file
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.volume import Volume
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner

FUSED_IO_ATOL = 2e-5
"""Largest difference of a probability."""

ScanSummary = dict[str, object]
"""What a scan was, for the provenance."""


def add_fused_io(
    model: ModelFile, scans: Iterable[Volume], *, limit: float = FUSED_IO_ATOL
) -> tuple[ModelFile, ParityReport]:
    """A model file with the preprocessing inside, and its parity check against NumPy's and the file it is made from.

    Parameters
    ----------
    model
        A checked file that takes network inputs.
    scans
        At least eight, stored as int16, of several sizes and with slopes and intercepts that do something; they lie in
        the contract's orientation.
    limit
        Largest difference of a probability; in fewer bits, the last bit of an input becomes a whole step.

    Raises
    ------
    ModelError
        The graph is too old, or ONNX Runtime cannot run the result.
    CheckFailedError
        The two answer differently.
    UsageError
        Too few scans.
    """
    proto = fuse_io(model)
    parity, summaries = check_fused_parity(proto, model, scans, limit)
    proto = _write_provenance(proto, model, {**parity.to_dict(), "scans": summaries})
    return _parse_fused_model(model.path, proto), parity


def check_fused_parity(
    proto: onnx.ModelProto, model: ModelFile, scans: Iterable[Volume], limit: float = FUSED_IO_ATOL
) -> tuple[ParityReport, list[ScanSummary]]:
    """Compare a graph that takes stored voxels with NumPy's preprocessing and a model; what the scans were, too.

    Raises
    ------
    ModelError, CheckFailedError, UsageError
        As `add_fused_io`.
    """
    pairs, summaries = [], []
    with (
        Runner(_parse_fused_model(model.path, proto), SessionRequest("cpu")) as inside,
        Runner(model, SessionRequest("cpu")) as outside,
    ):
        for scan in scans:
            expected = outside.infer(preprocess(scan, model.contract).volume[None])[0]
            found = inside.infer_stored(np.ascontiguousarray(scan.stored.T), scan.slope, scan.intercept)
            pairs.append((expected, found))
            summaries.append({"shape": list(scan.shape), "slope": scan.slope, "intercept": scan.intercept})
        parity = ParityReport.from_outputs(
            pairs, inside, material="scans as stored, against NumPy's preprocessing", limit=limit
        )
    require_parity(parity)
    return parity, summaries


def _parse_fused_model(path: Path, proto: onnx.ModelProto) -> ModelFile:
    return parse_model_file(path, proto.SerializeToString(deterministic=True), stored_voxels=True)


def _write_provenance(proto: onnx.ModelProto, model: ModelFile, parity: ScanSummary) -> onnx.ModelProto:
    provenance = {**model.provenance, "nodes": len(proto.graph.node), "embedded_preprocessing": parity}
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    properties[PROVENANCE_KEY] = json.dumps(provenance, sort_keys=True, separators=(",", ":"))
    onnx.helper.set_model_props(proto, properties)
    return proto
