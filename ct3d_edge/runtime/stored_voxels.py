"""Model files with the preprocessing inside: what goes in and comes out, and how to know one."""

from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ContractError, ModelError

INPUT_KEY = "ct3d.input"
"""Key of ONNX ``metadata_props``, in files that do not take the contract's network input."""

STORED_VOXELS = "stored voxels"
"""Its one value."""

VOXELS, SLOPE, INTERCEPT = "voxels", "slope", "intercept"
PROBABILITIES = "probabilities"
AXES = ("slices", "rows", "columns")
"""Of ``voxels``: the contract's third, second and first axis, the order in which files hold them."""


def takes_stored_voxels(path: Path, metadata: dict[str, str]) -> bool:
    """Whether a file says that it has the preprocessing inside.

    Raises
    ------
    ContractError
        If it says that it takes something that nobody knows.
    """
    said = metadata.get(INPUT_KEY)
    if said not in (None, STORED_VOXELS):
        raise ContractError(
            f"{path} takes {said!r} ('{INPUT_KEY}' in its metadata); this ct3d-edge knows {STORED_VOXELS!r}. "
            "Use the ct3d-edge version that wrote it."
        )
    return said is not None


def check_stored_voxels(path: Path, graph: onnx.GraphProto, contract: Contract) -> tuple[str, str]:
    """Names of the volume and of the probabilities in a graph with the preprocessing inside.

    Raises
    ------
    ContractError
        If the graph does not have the interface that the metadata promise.
    """
    weights = {tensor.name for tensor in graph.initializer}
    found = [_described(value) for value in graph.input if value.name not in weights]
    found += [_described(value) for value in graph.output]
    wanted = [
        f"{VOXELS} int16 (?, ?, ?)",
        f"{SLOPE} float ()",
        f"{INTERCEPT} float ()",
        f"{PROBABILITIES} float ({len(contract.labels)})",
    ]
    if found != wanted:
        raise ContractError(
            f"{path} says that it takes {STORED_VOXELS}, which is {', '.join(wanted)}; the graph has "
            f"{', '.join(found)}. The file was changed: export the model again."
        )
    return VOXELS, PROBABILITIES


def refuse_stored_voxels(path: Path) -> NoReturn:
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


def as_stored(volume: NDArray[np.float32], contract: Contract, steps: int) -> tuple[NDArray[np.int16], float, float]:
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


def _described(value: onnx.ValueInfoProto) -> str:
    tensor: Any = value.type.tensor_type
    known = onnx.TensorProto.DataType.values()
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if tensor.elem_type in known else "unknown"
    return f"{value.name} {kind} ({', '.join(str(dim.dim_value or '?') for dim in tensor.shape.dim)})"
