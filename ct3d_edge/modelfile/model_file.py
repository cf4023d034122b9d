"""Model files: one self-contained ONNX file with contract, golden test and provenance inside; the bundled one.

Everything is checked on the bytes that are later handed to the runtime, before the runtime sees them: what is
hashed is what runs.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ContractError, ModelError
from ct3d_edge.json_validation import parse_object
from ct3d_edge.modelfile.golden_test import GoldenTest
from ct3d_edge.modelfile.signature import (
    batch_axis,
    check_interface,
    check_stored_voxels,
    find_features_shape,
    find_pooled_length,
    has_embedded_preprocessing,
    list_weight_types,
    reject_external_data,
    reject_stored_voxels,
)

CONTRACT_KEY = "ct3d.contract"
GOLDEN_KEY = "ct3d.golden"
PROVENANCE_KEY = "ct3d.provenance"
"""Keys of ONNX ``metadata_props``."""


SEQUENTIAL_BATCH_VARIANTS = (("small", "cpu"), ("small", "no-conv3d"), ("fast", "cpu"))
"""Level and target of files whose graph is tiled."""


@dataclass(frozen=True, eq=False)
class ModelFile:
    """A checked model file.

    Parameters
    ----------
    path, data, sha256
        Where it was read from, its bytes, and their hash.
    contract, golden
        What it expects of a volume and what its output means; known inputs and outputs.
    provenance
        How it was made, as JSON: source hash, tool versions, parity check.
    input_name, output_name
        Names in the graph.
    batch_axis
        Name of the graph's symbolic batch axis; None if the batch is fixed at one or has no name.
    stored_voxels
        Whether it takes a scan as it is stored, with the preprocessing inside (docs/embedding.md).
    weights
        Number types that weights are stored in, most bytes first: ``("float32",)`` for instance.
    node_counts
        Operator type to number of nodes.
    opset
        Version of the default operator set.
    features
        Shape ``(C, a, b, c)`` of the output for Grad-CAM, without its batch axis; None if the file has none.
    pooled
        Length of the output of pooled features, if the contract has their statistics; else None.
    """

    path: Path
    data: bytes
    sha256: str
    contract: Contract
    golden: GoldenTest
    provenance: dict[str, Any]
    input_name: str
    output_name: str
    batch_axis: str | None
    stored_voxels: bool
    weights: tuple[str, ...]
    node_counts: dict[str, int]
    opset: int
    features: tuple[int, ...] | None
    pooled: int | None

    @property
    def runs_batch_sequentially(self) -> bool:
        """Whether the graph is tiled for one scan, so that the scans of a batch run faster in turn on a CPU.

        Tiles of ``small`` fit a memory budget, those of ``fast`` for ``cpu`` the cache: with two scans at once they
        are twice as large.
        """
        return self.optimized in SEQUENTIAL_BATCH_VARIANTS

    @property
    def optimized(self) -> tuple[Any, Any]:
        """Level and target that it was rewritten for; None twice if its provenance has neither."""
        options = self.provenance.get("optimize")
        return (options.get("level"), options.get("target")) if isinstance(options, dict) else (None, None)

    @property
    def interface(self) -> tuple[str, str]:
        """Number types of input and output."""
        return ("int16" if self.stored_voxels else "float32", "float32")

    @property
    def arithmetic(self) -> str:
        """Precision of most of the graph, by its provenance; fp32 if that names none."""
        precision = self.provenance.get("precision")
        return str(precision.get("arithmetic", "fp32")) if isinstance(precision, dict) else "fp32"

    def incompatibility_reason(self, provider: str) -> str | None:
        """Why a provider must not run the file, as its export found; None if it may."""
        reasons = self.provenance.get("not_for")
        return str(reasons[provider]) if isinstance(reasons, dict) and provider in reasons else None

    @property
    def nodes(self) -> int:
        """Number of nodes in the graph."""
        return sum(self.node_counts.values())


def load_model_file(path: Path | str, *, stored_voxels: bool = False) -> ModelFile:
    """Read and check a model file.

    Parameters
    ----------
    stored_voxels
        Accept a file with embedded preprocessing, too: not every caller can feed it.

    Raises
    ------
    ModelError
        The file is missing, truncated, not ONNX, keeps weights outside itself, or its graph does not have one
        float32 input of the contract's shape and one float32 output; or has embedded preprocessing.
    ContractError
        It has no contract, or an invalid one.
    """
    path = Path(path)
    return parse_model_file(path, _read(path), stored_voxels=stored_voxels)


def parse_model_file(path: Path, data: bytes, *, stored_voxels: bool = False) -> ModelFile:
    """Check the bytes of a model file, as ``load_model_file`` does; ``path`` only names them in messages."""
    proto = _parse(path, data)
    reject_external_data(path, proto)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    contract = Contract.from_json(_required_metadata(path, metadata, CONTRACT_KEY))
    inside = has_embedded_preprocessing(path, metadata)
    if inside and not stored_voxels:
        reject_stored_voxels(path)
    check = check_stored_voxels if inside else check_interface
    input_name, output_name = check(path, proto.graph, contract)
    counts: dict[str, int] = {}
    for node in proto.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return ModelFile(
        path=path,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        contract=contract,
        golden=GoldenTest.from_json(_required_metadata(path, metadata, GOLDEN_KEY), classes=len(contract.labels)),
        provenance=parse_object(metadata.get(PROVENANCE_KEY, "{}"), f"{path}: '{PROVENANCE_KEY}'", ModelError),
        input_name=input_name,
        output_name=output_name,
        batch_axis=None if inside else batch_axis(proto.graph, input_name),
        stored_voxels=inside,
        weights=list_weight_types(proto),
        node_counts=dict(sorted(counts.items())),
        opset=next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0),
        features=find_features_shape(path, proto.graph),
        pooled=None if inside else find_pooled_length(path, proto.graph, contract),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"The model file {path} cannot be read: {error.strerror or error}.") from error


def _parse(path: Path, data: bytes) -> onnx.ModelProto:
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise ModelError(f"{path} ({len(data):,} bytes) is truncated or not an ONNX file.") from error
    if not proto.graph.node or not proto.graph.input:
        raise ModelError(f"{path} ({len(data):,} bytes) is not an ONNX file: it holds no graph.")
    return proto


def _required_metadata(path: Path, metadata: dict[str, str], key: str) -> str:
    if key not in metadata:
        raise ContractError(
            f"{path} is an ONNX file without '{key}' in its metadata, so what it expects of a scan is unknown. "
            "Make it with: ct3d-edge export --model MODEL.keras --out MODEL.onnx"
        )
    return metadata[key]


def attach_metadata(proto: onnx.ModelProto, contract: Contract, golden: GoldenTest, provenance: dict[str, Any]) -> None:
    """Write contract, golden test and provenance into a graph's metadata, in place of what was there."""
    onnx.helper.set_model_props(
        proto,
        {
            CONTRACT_KEY: contract.to_json(),
            GOLDEN_KEY: golden.to_json(),
            PROVENANCE_KEY: json.dumps(provenance, sort_keys=True, separators=(",", ":")),
        },
    )


def parse_graph(path: Path, proto: onnx.ModelProto) -> ModelFile:
    """A graph with metadata as the file that it will be; ``path`` is for messages, nothing is read or written."""
    return parse_model_file(path, proto.SerializeToString(deterministic=True))


PACKAGE = Path(__file__).parents[1]
WHEEL_MODELS = PACKAGE / "_models"
CHECKOUT_MODELS = PACKAGE.parent / "models"


def _models_folder() -> Path:
    return CHECKOUT_MODELS if (PACKAGE.parent / "pyproject.toml").is_file() else WHEEL_MODELS


def default_model_path() -> Path:
    """Path of the default model, whose bytes are those of its manifest.

    Raises
    ------
    ModelError
        If this installation came without its models, or the file is not the one in the manifest.
    """
    folder = _models_folder()
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        path = folder / str(manifest["default"])
        (wanted,) = [entry["sha256"] for entry in manifest["models"] if entry["file"] == path.name]
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"This installation holds no usable model ({error!r}). Name the file of another one."
        ) from error
    if found != wanted:
        raise ModelError(f"{path} is not the file in its manifest; it was changed or copied badly. Fetch it again.")
    return path


def is_demo_model(model: ModelFile) -> bool:
    """Whether a file was made, in whatever form and however it is named, of the network that comes with ct3d-edge."""
    source = model.provenance.get("source")
    try:
        manifest = json.loads((_models_folder() / "manifest.json").read_text(encoding="utf-8"))
        shipped = {entry["keras_sha256"] for entry in manifest["models"]}
    except (OSError, ValueError, KeyError, TypeError):  # `default_model_path` reports it
        return False
    return isinstance(source, dict) and source.get("sha256") in shipped
