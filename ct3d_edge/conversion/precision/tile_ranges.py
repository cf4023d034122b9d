"""One range for the parts of a tensor that are computed one after the other: the tiles of a layer.

What a structure of the body shows in one tile on the calibration volumes, other scans show in another. With a range of
its own, a tile clips what only its neighbours had on the calibration volumes.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

SAME_VALUES = frozenset(
    {
        "Concat",
        "Flatten",
        "Gather",
        "Identity",
        "MaxPool",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators whose outputs hold values of their inputs only."""

PADDING = ("pads", "auto_pad")
"""Attributes in which the first and the last tile differ from the others."""


def share_ranges(proto: onnx.ModelProto, ranges: TensorsData) -> TensorsData:
    """Ranges by tensor, where those of one label are the widest of all."""
    labels = label_tensors(proto)
    lows: dict[str, float] = {}
    highs: dict[str, float] = {}
    for name, found in ranges.items():
        label = labels.get(name, name)
        low, high = found.range_value
        lows[label] = min(lows.get(label, np.inf), float(np.min(low)))
        highs[label] = max(highs.get(label, -np.inf), float(np.max(high)))
    shared = {name: _range(lows, highs, labels.get(name, name)) for name in ranges}
    return TensorsData(CalibrationMethod.MinMax, shared)


def _range(lows: Mapping[str, float], highs: Mapping[str, float], label: str) -> TensorData:
    return TensorData(lowest=np.array(lows[label], np.float32), highest=np.array(highs[label], np.float32))


def label_tensors(proto: onnx.ModelProto) -> dict[str, str]:
    """Label of each tensor: equal for outputs of equal operators with equal constants on inputs of equal labels.

    Operators that only select, reorder or pad values with zeros pass on the label of their inputs.
    """
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    labels = {value.name: value.name for value in proto.graph.input if value.name not in constants}
    known: dict[tuple[object, ...], str] = {}
    for node in proto.graph.node:
        inputs = [labels[name] for name in node.input if name in labels]
        fixed = [constants[name] for name in node.input if name in constants]
        if len(set(inputs)) == 1 and (node.op_type in SAME_VALUES or _pads_zeros(node, fixed)):
            labels |= dict.fromkeys(node.output, inputs[0])
            continue
        kind = (node.op_type, *inputs, *(sha256(array.tobytes()).hexdigest() for array in fixed), *_attributes(node))
        for place, output in enumerate(node.output):
            labels[output] = known.setdefault((place, *kind), output)
    return labels


def _pads_zeros(node: onnx.NodeProto, fixed: Sequence[NDArray[Any]]) -> bool:
    """Whether it is a Pad with zeros: every range holds zero."""
    return node.op_type == "Pad" and not any(array.any() for array in fixed if array.dtype.kind == "f")


def _attributes(node: onnx.NodeProto) -> list[bytes]:
    kept = [attribute for attribute in node.attribute if attribute.name not in PADDING]
    return sorted(bytes(attribute.SerializeToString(deterministic=True)) for attribute in kept)
