"""Weights put onto the grid of 8-bit integers so that the sum of each kernel stays what it was.

Rounded one by one, the weights of a kernel miss its sum by a step or more. What lies under a kernel is much the same
everywhere in it, so that the miss shifts a channel as a whole, in every voxel, and the mean behind the last layer keeps
it. So a few weights are rounded the other way, those nearest to the middle of a step first. It needs no volumes.
"""

import numpy as np
import onnx
from numpy.typing import NDArray

from ct3d_edge.conversion.precision.constants import Constants


def on_grid(proto: onnx.ModelProto, top: int) -> onnx.ModelProto:
    """A copy whose convolutions have weights that quantisation per output channel leaves as they are.

    Parameters
    ----------
    top
        Integer of a channel's largest weight: 127, or 64 where weights have seven bits.
    """
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    constants = Constants(made)
    for name in {node.input[1] for node in made.graph.node if node.op_type == "Conv"}:
        weights = constants.get(name)
        if weights is not None and weights.size:
            constants.put(name, rounded(weights, top))
    return made


def rounded(weights: NDArray[np.float32], top: int) -> NDArray[np.float32]:
    """Weights ``(out, in, *kernel)`` as multiples of a step per output channel, each kernel's sum within half a step.

    The largest weight of a channel stays as it is, so that the step can be found again.
    """
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1).astype(np.float64)
    step = np.where(largest > 0, largest, 1.0)[:, None, None] / top
    exact = weights.reshape(*weights.shape[:2], -1) / step
    nearest = np.rint(exact)
    missed = exact - nearest
    wanted = np.rint(missed.sum(axis=-1, keepdims=True))
    first = np.argsort(np.argsort(-missed * np.sign(wanted), axis=-1, kind="stable"), axis=-1, kind="stable")
    moved = nearest + np.where(first < np.abs(wanted), np.sign(wanted), 0.0)
    return np.asarray((np.clip(moved, -top, top) * step).reshape(weights.shape), np.float32)
