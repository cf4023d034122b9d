"""Preprocessing as ONNX nodes: from stored voxels of any size to one network input.

The same samples as in ``ct3d_edge.preprocessing``, by Gather, MatMul and integer arithmetic on the sizes, which every
runtime has; no Resize (runtimes differ in its coordinates), no Loop and no If.

``voxels`` is ``(D, H, W)`` int16: row by row, slice by slice, as DICOM and NIfTI files hold them. With ``p`` the
position of a sample, a voxel at ``v`` counts ``max(0, 1 - |p - v|)``, which is linear interpolation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ct3d_edge.contract import Contract
from ct3d_edge.modelfile.signature import INTERCEPT_INPUT, SLOPE_INPUT, VOXELS_INPUT
from ct3d_edge.scan.volume import AxisMapping


class NodeWriter:
    """Collects nodes and constants whose names have a prefix, so that they differ from those of the network.

    Parameters
    ----------
    prefix
        Beginning of every name.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, operator: str, *inputs: str | NDArray[Any], output_name: str | None = None, **attributes: Any) -> str:
        """Add a node of one output, numbered if it has no name; an array among the inputs becomes a constant."""
        name = f"{self._prefix}{operator.lower()}_{len(self.nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [output_name or name], name=name, **attributes))
        return output_name or name

    def _constant(self, value: NDArray[Any]) -> str:
        name = f"{self._prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


COLUMNS, ROWS, SLICES = 0, 1, 2
"""The scan's axes ``(i, j, k)``; ``voxels`` has them the other way round."""

SAMPLED_AXES = (ROWS, COLUMNS, SLICES)
"""Order of the axes in which sampling leaves them."""


@dataclass(frozen=True)
class InputAxis:
    """Samples along one axis of the scan.

    Sample ``i`` lies at ``steps[i] * (size - 1) / intervals``, where ``size`` is known when the model runs. The
    position stays a fraction of whole numbers until its last step: its rounding cannot depend on the runtime.

    Parameters
    ----------
    last
        Name of the last index, ``(1,)`` int64.
    numerator
        Name of ``steps * (size - 1)``, ``(n,)`` int64.
    intervals
        Of the network's axis.
    samples
        ``n``.
    """

    last: str
    numerator: str
    intervals: int
    samples: int


def append_preprocessing(nodes: NodeWriter, contract: Contract, output_name: str) -> None:
    """Add the nodes from ``voxels``, ``slope`` and ``intercept`` to a network input, a batch of one."""
    mapping = AxisMapping().rotated(contract.quarter_turns)
    columns, rows, slices = _axes(nodes, contract, mapping)
    needed = _needed_slices(nodes, slices)
    planes = _interpolate_rows(nodes, needed, rows, contract.hu_window)
    pictures = nodes.op("MatMul", planes, _interpolation_weights(nodes, _all_indices(nodes, columns), columns))
    flat = nodes.op("Reshape", pictures, np.array([-1, rows.samples * columns.samples]))
    stored = nodes.op("Gemm", flat, _interpolation_weights(nodes, needed, slices), transA=1)
    scaled = _scale_to_unit(nodes, stored, contract.hu_window)
    volume = nodes.op("Reshape", scaled, np.array([axis.samples for axis in (rows, columns, slices)]))
    order = [SAMPLED_AXES.index(axis) for axis in mapping.axes]
    turned = volume if order == [0, 1, 2] else nodes.op("Transpose", volume, perm=order)
    nodes.op("Reshape", turned, np.array([1, *contract.input_shape]), output_name=output_name)


def _axes(nodes: NodeWriter, contract: Contract, mapping: AxisMapping) -> list[InputAxis]:
    """Samples along the scan's axes ``(i, j, k)``."""
    shape = nodes.op("Shape", VOXELS_INPUT)
    axes: dict[int, InputAxis] = {}
    for samples, axis, flip in zip(contract.shape, mapping.axes, mapping.flips, strict=True):
        size = nodes.op("Gather", shape, np.array([2 - axis]))
        last = nodes.op("Sub", size, np.array([1]))
        intervals = max(samples - 1, 1)
        steps = np.arange(samples)
        numerator = nodes.op("Mul", last, intervals - steps if flip else steps)
        axes[axis] = InputAxis(last, numerator, intervals, samples)
    return [axes[axis] for axis in range(3)]


def _lower_neighbours(nodes: NodeWriter, axis: InputAxis) -> str:
    """The lower of the two neighbours of each sample; the last but one for the last sample."""
    below = nodes.op("Sub", axis.last, np.array([1]))
    low = nodes.op("Min", nodes.op("Div", axis.numerator, np.array([axis.intervals])), below)
    return nodes.op("Max", low, np.array([0]))


def _upper_neighbours(nodes: NodeWriter, axis: InputAxis, low: str) -> str:
    return nodes.op("Min", nodes.op("Add", low, np.array([1])), axis.last)


def _all_indices(nodes: NodeWriter, axis: InputAxis) -> str:
    """Every index along an axis."""
    return _index_range(nodes, nodes.op("Add", axis.last, np.array([1])))


def _index_range(nodes: NodeWriter, size: str) -> str:
    return nodes.op("Range", np.array(0), nodes.op("Squeeze", size, np.array([0])), np.array(1))


def _needed_slices(nodes: NodeWriter, axis: InputAxis) -> str:
    """Both neighbours of every sample, or all slices where those are fewer; each slice once.

    With more than two slices a sample, no two samples share a neighbour, and no lower neighbour is the last slice.
    """
    low = _lower_neighbours(nodes, axis)
    both = nodes.op("Concat", low, _upper_neighbours(nodes, axis, low), axis=0)
    most = np.array([2 * axis.samples])
    count = nodes.op("Min", nodes.op("Add", axis.last, np.array([1])), most)
    some = nodes.op("Slice", both, np.array([0]), count)
    return nodes.op("Where", nodes.op("Less", axis.last, most), _index_range(nodes, count), some)


def _interpolation_weights(nodes: NodeWriter, indices: str, axis: InputAxis) -> str:
    """Weight of the voxel at each index for each sample: ``(indices, n)`` float32, mostly zeros."""
    at = nodes.op("Mul", nodes.op("Unsqueeze", indices, np.array([1])), np.array([axis.intervals]))
    away = nodes.op("Abs", nodes.op("Sub", at, axis.numerator))
    near = nodes.op("Relu", nodes.op("Sub", _float32(axis.intervals), _as_float(nodes, away)))
    return nodes.op("Div", near, _float32(axis.intervals))


def _interpolate_rows(nodes: NodeWriter, slices: str, axis: InputAxis, window: tuple[float, float]) -> str:
    """Interpolate between rows of the needed slices, clipped to the window: ``(slices, n, W)`` float32."""
    low = _lower_neighbours(nodes, axis)
    beyond = nodes.op("Sub", axis.numerator, nodes.op("Mul", low, np.array([axis.intervals])))
    weight = nodes.op("Div", _as_float(nodes, beyond), _float32(axis.intervals))
    bounds = _window_in_stored_units(nodes, window)
    lower, upper = (
        nodes.op("Clip", _as_float(nodes, _gather_rows(nodes, slices, rows, axis)), *bounds)
        for rows in (low, _upper_neighbours(nodes, axis, low))
    )
    rise = nodes.op("Mul", nodes.op("Sub", upper, lower), nodes.op("Unsqueeze", weight, np.array([1])))
    return nodes.op("Add", lower, rise)


def _gather_rows(nodes: NodeWriter, slices: str, rows: str, axis: InputAxis) -> str:
    """Copy rows of slices, and nothing else of the volume: ``(slices, rows, W)`` int16."""
    lines = nodes.op("Flatten", VOXELS_INPUT, axis=2)
    before = nodes.op("Mul", nodes.op("Unsqueeze", slices, np.array([1])), nodes.op("Add", axis.last, np.array([1])))
    return nodes.op("Gather", lines, nodes.op("Add", before, rows), axis=0)


def _window_in_stored_units(nodes: NodeWriter, window: tuple[float, float]) -> tuple[str, str]:
    """The window's ends as stored numbers, the smaller first: interpolation and scaling may change places.

    So what is scaled are the network's voxels, not the many more that are gathered for them.
    """
    ends = [nodes.op("Div", nodes.op("Sub", _float32(end), INTERCEPT_INPUT), SLOPE_INPUT) for end in window]
    return nodes.op("Min", *ends), nodes.op("Max", *ends)


def _scale_to_unit(nodes: NodeWriter, stored: str, window: tuple[float, float]) -> str:
    """Stored numbers to HU to [0, 1]."""
    low, high = window
    hu = nodes.op("Add", nodes.op("Mul", stored, SLOPE_INPUT), INTERCEPT_INPUT)
    part = nodes.op("Mul", nodes.op("Sub", hu, _float32(low)), _float32(1 / (high - low)))
    return nodes.op("Clip", part, _float32(0), _float32(1))


def _as_float(nodes: NodeWriter, value: str) -> str:
    return nodes.op("Cast", value, to=onnx.TensorProto.FLOAT)


def _float32(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)
