"""Inputs, outputs and stored numbers of a model file: names, shapes, types, and embedded preprocessing."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.external_data_helper import uses_external_data

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ContractError, ModelError

INPUT_NAME = "volume"
"""Name of the network input that an export writes."""


def output_name(contract: Contract) -> str:
    """``"probability"``, or ``"logit"`` if the contract leaves the activation to the runtime."""
    return "probability" if contract.activation == "identity" else "logit"


INPUT_KEY = "ct3d.input"
"""Key of ONNX ``metadata_props``, in files that do not take the contract's network input."""

STORED_VOXELS = "stored voxels"
"""Its one value."""

VOXELS_INPUT, SLOPE_INPUT, INTERCEPT_INPUT = "voxels", "slope", "intercept"
PROBABILITIES_OUTPUT = "probabilities"
VOXEL_AXES = ("slices", "rows", "columns")
"""Of ``voxels``: the contract's third, second and first axis, the order in which files hold them."""


def has_embedded_preprocessing(path: Path, metadata: dict[str, str]) -> bool:
    """Whether a file declares that it has the preprocessing inside.

    Raises
    ------
    ContractError
        If it declares an input of an unknown kind.
    """
    declared = metadata.get(INPUT_KEY)
    if declared not in (None, STORED_VOXELS):
        raise ContractError(
            f"{path} takes {declared!r} ('{INPUT_KEY}' in its metadata); this ct3d-edge knows {STORED_VOXELS!r}. "
            "Use the ct3d-edge version that wrote it."
        )
    return declared is not None


def check_stored_voxels(path: Path, graph: onnx.GraphProto, contract: Contract) -> tuple[str, str]:
    """Names of the volume and of the probabilities in a graph with the preprocessing inside.

    Raises
    ------
    ContractError
        If the graph does not have the interface that the metadata promise.
    """
    weights = {tensor.name for tensor in graph.initializer}
    found = [_describe_value(value) for value in graph.input if value.name not in weights]
    found += [_describe_value(value) for value in graph.output]
    wanted = [
        f"{VOXELS_INPUT} int16 (?, ?, ?)",
        f"{SLOPE_INPUT} float ()",
        f"{INTERCEPT_INPUT} float ()",
        f"{PROBABILITIES_OUTPUT} float ({len(contract.labels)})",
    ]
    if found != wanted:
        raise ContractError(
            f"{path} declares that it takes {STORED_VOXELS}, which is {', '.join(wanted)}; the graph has "
            f"{', '.join(found)}. The file was changed: export the model again."
        )
    return VOXELS_INPUT, PROBABILITIES_OUTPUT


def reject_stored_voxels(path: Path) -> NoReturn:
    """For whatever feeds network inputs.

    Raises
    ------
    ModelError
        Always.
    """
    raise ModelError(
        f"{path} has the preprocessing inside and is made for other programs (docs/embedding.md); here, use the model "
        "that was exported without it. `inspect` and `verify` take this one."
    )


def to_stored_voxels(
    volume: NDArray[np.float32], contract: Contract, steps: int
) -> tuple[NDArray[np.int16], float, float]:
    """Stored voxels whose preprocessing gives a network input: as large as that, so nothing is interpolated.

    Parameters
    ----------
    volume
        ``contract.shape``, multiples of ``1 / steps`` in [0, 1].

    Returns
    -------
    tuple
        ``(D, H, W)`` int16, C-contiguous; slope; intercept.
    """
    low, high = contract.hu_window
    stored = np.rot90(np.rint(volume * steps).astype(np.int16), -contract.quarter_turns, axes=(0, 1))
    return np.ascontiguousarray(stored.T), (high - low) / steps, low


def _describe_value(value: onnx.ValueInfoProto) -> str:
    tensor: Any = value.type.tensor_type
    known = onnx.TensorProto.DataType.values()
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type in known else "unknown"
    return f"{value.name} {kind} ({', '.join(str(dim.dim_value or '?') for dim in tensor.shape.dim)})"


FEATURES_OUTPUT = "ct3d.features"
"""Name of the output, besides the prediction, from which Grad-CAM is computed."""

POOLED_OUTPUT = "ct3d.pooled"
"""Name of the output, besides the prediction, for out-of-distribution detection."""

EXTRA_OUTPUTS = (FEATURES_OUTPUT, POOLED_OUTPUT)


def batch_axis(graph: onnx.GraphProto, input_name: str) -> str | None:
    """Name of the symbolic batch axis; None if the batch is fixed, or has no name."""
    (value,) = [value for value in graph.input if value.name == input_name]
    return value.type.tensor_type.shape.dim[0].dim_param or None


def check_interface(path: Path, graph: onnx.GraphProto, contract: Contract) -> tuple[str, str]:
    """Names of the volume and of the prediction in a graph that takes network inputs.

    Raises
    ------
    ModelError
        If it has more inputs, or unknown outputs.
    ContractError
        If one is not of the contract's shape, or not float.
    """
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    outputs = [value for value in graph.output if value.name not in EXTRA_OUTPUTS]
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; one volume in, one vector out is needed."
        )
    _check_value(path, "input", inputs[0], contract.input_shape)
    _check_value(path, "output", outputs[0], (contract.outputs,))
    return inputs[0].name, outputs[0].name


def find_features_shape(path: Path, graph: onnx.GraphProto) -> tuple[int, ...] | None:
    """Shape of the output for Grad-CAM without its batch axis; None without one, a ``ModelError`` if it is unusable."""
    for value in graph.output:
        if value.name == FEATURES_OUTPUT:
            shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim[1:])
            if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT or len(shape) != 4 or min(shape) < 1:
                raise ModelError(
                    f"{path}: its output {FEATURES_OUTPUT} is not float (batch, C, a, b, c). Export it again."
                )
            return shape
    return None


def find_pooled_length(path: Path, graph: onnx.GraphProto, contract: Contract) -> int | None:
    """Length of the output of pooled features; None if there is none, or no statistics in the contract.

    Raises
    ------
    ContractError
        If it is not as long as the contract's statistics are.
    """
    if contract.feature_statistics is None:
        return None
    for value in graph.output:
        if value.name == POOLED_OUTPUT:
            _check_value(path, f"output {POOLED_OUTPUT}", value, (contract.feature_statistics.features,))
            return contract.feature_statistics.features
    return None


def _check_value(path: Path, role: str, value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    """Check dtype and shape; a dynamic batch axis or a batch of one in front is implied."""
    tensor = value.type.tensor_type
    found = tuple(dim.dim_value or dim.dim_param or "?" for dim in tensor.shape.dim)
    batch = found[0] if found else 0
    if tensor.elem_type != onnx.TensorProto.FLOAT or found[1:] != shape or not (batch == 1 or isinstance(batch, str)):
        known = onnx.TensorProto.DataType.values()
        kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type in known else "unknown"
        raise ContractError(
            f"{path}: its contract describes a float {role} of shape ('batch', {', '.join(map(str, shape))}), "
            f"the graph has {kind} {found}. File and contract do not belong together: export the model again."
        )


WEIGHT_TYPES: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.BFLOAT16: "bfloat16",
    onnx.TensorProto.DOUBLE: "float64",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.UINT8: "uint8",
}
"""Element types in which networks are stored."""


def iter_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor stored in a graph, those in attributes and subgraphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_in_nodes(graph.node)


def _tensors_in_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for subgraph in (attribute.g, *attribute.graphs):
                yield from iter_tensors(subgraph)


def list_weight_types(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Types of stored numbers by the space they take; integers that are shapes and axes do not count."""
    sizes: Counter[str] = Counter()
    for tensor in iter_tensors(proto.graph):
        if tensor.data_type in WEIGHT_TYPES:
            sizes[WEIGHT_TYPES[tensor.data_type]] += tensor.ByteSize()
    return tuple(name for name, _ in sizes.most_common())


def reject_external_data(path: Path, proto: onnx.ModelProto) -> None:
    """A ``ModelError`` if some of the numbers are in other files."""
    in_functions = (_tensors_in_nodes(function.node) for function in proto.functions)
    outside = sum(map(uses_external_data, chain(iter_tensors(proto.graph), *in_functions)))
    if outside:
        raise ModelError(
            f"{path} keeps {outside} tensors in other files. Save it as one file "
            "(onnx.save_model with save_as_external_data=False), then export again."
        )
