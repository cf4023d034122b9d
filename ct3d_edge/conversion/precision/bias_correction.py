"""Bias correction: what quantisation shifts a channel by on average is taken off its bias.

After Nagel et al. 2019 (arXiv 1906.04721, section 4.2), with averages over calibration volumes, layer by layer: each is
measured behind those that were corrected before it. What is matched is what the next layer is given, behind ReLU and
pooling: to match the convolution itself would count voxels that ReLU sets to zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.conversion.precision.int8 import ConstantTable
from ct3d_edge.session.intermediate_outputs import IntermediateOutputs

Batches = Sequence[NDArray[np.float32]]

MIN_ACTIVE_SHARE = 0.05
"""Least share of positive values that a shift is divided by: the mean of a channel with fewer says little about its
bias, so it is moved by less than would make up for what is missing."""


@dataclass(frozen=True)
class QuantizedLayer:
    """A convolution whose bias is quantised.

    Parameters
    ----------
    integers, scale
        Names of the bias's constants.
    given
        The tensor to be matched, channels on axis 1: behind ReLU and pooling, or the convolution's own.
    has_relu
        Whether a ReLU lies between.
    """

    integers: str
    scale: str
    given: str
    has_relu: bool


@dataclass(frozen=True)
class ChannelMean:
    """Of each channel over some volumes; and the share of its values above zero."""

    value: NDArray[np.float64]
    active_share: NDArray[np.float64]


def correct_biases(single: onnx.ModelProto, made: onnx.ModelProto, batches: Batches) -> onnx.ModelProto:
    """A copy of a quantised graph whose layers give, on average, what those of the float32 graph give.

    Parameters
    ----------
    single, made
        The graph before and after quantisation, which keeps the names of tensors.
    batches
        Network inputs with their batch axis.
    """
    corrected = onnx.ModelProto()
    corrected.CopyFrom(made)
    layers = _find_quantized_layers(single, corrected)
    expected = _measure_means(single, [layer.given for layer in layers], batches)
    constants = ConstantTable(corrected)
    for layer in layers:
        right = expected[layer.given]
        missing = right.value - _measure_means(corrected, [layer.given], batches)[layer.given].value
        shift = missing / np.maximum(right.active_share, MIN_ACTIVE_SHARE) if layer.has_relu else missing
        bias, step = constants.get(layer.integers), constants.get(layer.scale)
        if bias is not None and step is not None:
            constants.put(layer.integers, (bias + np.rint(shift / step)).astype(bias.dtype))
    return corrected


def _find_quantized_layers(single: onnx.ModelProto, made: onnx.ModelProto) -> list[QuantizedLayer]:
    """In the graph's order."""
    biases = {node.output[0]: node for node in made.graph.node if node.op_type == "DequantizeLinear"}
    found = []
    for node in made.graph.node:
        if node.op_type == "Conv" and len(node.input) > 2 and node.input[2] in biases:
            integers, scale = biases[node.input[2]].input[:2]
            found.append(QuantizedLayer(integers, scale, *_follow_activations(single, node.output[0])))
    return found


def _follow_activations(single: onnx.ModelProto, tensor: str) -> tuple[str, bool]:
    """The last tensor of a chain of ReLU and pooling that begins at one, and whether there is a ReLU in it."""
    clipped = False
    while True:
        users = [node for node in single.graph.node if tensor in node.input]
        if len(users) != 1 or users[0].op_type not in ("Relu", "MaxPool"):
            return tensor, clipped
        clipped = clipped or users[0].op_type == "Relu"
        tensor = users[0].output[0]


def _measure_means(proto: onnx.ModelProto, names: list[str], batches: Batches) -> dict[str, ChannelMean]:
    tap = IntermediateOutputs(proto, names)
    seen: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {name: [] for name in names}
    for batch in batches:
        for name, value in tap.tensors(batch):
            others = tuple(axis for axis in range(value.ndim) if axis != 1)
            seen[name].append((value.mean(axis=others, dtype=np.float64), (value > 0).mean(axis=others)))
    return {name: ChannelMean(*np.mean(pairs, axis=0)) for name, pairs in seen.items()}
