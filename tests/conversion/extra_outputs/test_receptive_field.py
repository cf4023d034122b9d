"""Where cells lie, against the obvious: what a cell reacts to."""

from typing import Any

import numpy as np
import onnx
import pytest
from graphs import GraphMaker, answers

from ct3d_edge.conversion.extra_outputs.receptive_field import trace_receptive_field
from ct3d_edge.gradcam.resample_to_scan import FeatureGrid

SHAPE = (21, 18, 23)


def centres(proto: onnx.ModelProto, cell: tuple[int, int, int]) -> list[float]:
    """Middle of the voxels that an inner cell reacts to, along each axis; all weights must be positive."""
    graph_input = proto.graph.input[0].type.tensor_type.shape.dim
    x = np.zeros([1, *(dim.dim_value for dim in graph_input[1:])], np.float32)
    nothing = answers(proto, x)[0][(0, 0, *cell)]
    found = []
    for axis, size in enumerate(SHAPE):
        touched = []
        for index in range(size):
            slab = x.copy()
            np.moveaxis(slab.reshape(SHAPE), axis, 0)[index] = 1
            if abs(answers(proto, slab)[0][(0, 0, *cell)] - nothing) > 1e-6:
                touched.append(index)
        found.append((touched[0] + touched[-1]) / 2)
    return found


def positive(g: GraphMaker, x: str, inputs: int, kernel: tuple[int, int, int], **attributes: Any) -> str:
    return g.op("Conv", x, np.abs(g.normal(2, inputs, *kernel)) + np.float32(0.1), **attributes)


def channels_last() -> onnx.ModelProto:
    g = GraphMaker(*SHAPE, 1)
    x = g.op("Transpose", "x", perm=[0, 4, 1, 2, 3])
    x = g.op("Relu", positive(g, x, 1, (3, 3, 3)))
    x = g.op("AveragePool", x, kernel_shape=[2, 2, 3], strides=[2, 2, 3])
    x = g.op("Add", x, g.op("Sigmoid", x))
    return g.model(positive(g, x, 2, (3, 2, 3), pads=[1, 1, 1, 1, 0, 1], dilations=[1, 1, 1]))


def channels_none_strided() -> onnx.ModelProto:
    g = GraphMaker(*SHAPE)
    x = g.op("Reshape", "x", np.array([-1, 1, *SHAPE]))
    x = positive(g, x, 1, (3, 3, 3), strides=[2, 1, 2], dilations=[1, 2, 1], auto_pad="VALID")
    x = g.op("Slice", x, np.array([1]), np.array([9]), np.array([2]))
    return g.model(g.op("AveragePool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2]))


@pytest.mark.parametrize("make", [channels_last, channels_none_strided])
def test_cells_lie_where_they_look(make: object) -> None:
    proto = make()  # type: ignore[operator]
    cells = trace_receptive_field(proto, proto.graph.output[0].name, SHAPE)
    assert cells is not None
    for cell in ((1, 1, 1), (2, 3, 2)):
        expected = [o + s * n for o, s, n in zip(cells.offset, cells.stride, cell, strict=True)]
        assert centres(proto, cell) == pytest.approx(expected, abs=1e-9)


def test_the_published_network_looks_at_the_voxels_that_the_documentation_says() -> None:
    g = GraphMaker(1, 62, 64, 78)
    x = "x"
    for inputs in (1, 2, 2, 2):
        x = g.op("MaxPool", g.conv(x, 2, inputs, 3, 3, 3), kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    proto = g.model(x)
    assert trace_receptive_field(proto, x, (62, 64, 78)) == FeatureGrid((22.5,) * 3, (16.0,) * 3)


def turned() -> onnx.ModelProto:
    g = GraphMaker(1, *SHAPE)
    return g.model(g.conv(g.op("Transpose", "x", perm=[0, 1, 4, 3, 2]), 2, 1, 3, 3, 3))


def resized() -> onnx.ModelProto:
    g = GraphMaker(1, *SHAPE)
    scales = np.array([1, 1, 2, 2, 2], np.float32)
    return g.model(g.op("Resize", "x", np.array([], np.float32), scales))


def disagreeing() -> onnx.ModelProto:
    g = GraphMaker(1, *SHAPE)
    first = g.conv("x", 2, 1, 3, 3, 3, pads=[1] * 6)
    return g.model(g.op("Add", first, g.conv("x", 2, 1, 3, 3, 3, pads=[2, 2, 2, 0, 0, 0])))


@pytest.mark.parametrize("make", [turned, resized, disagreeing])
def test_what_cannot_be_read_off_is_not_guessed(make: object) -> None:
    proto = make()  # type: ignore[operator]
    assert trace_receptive_field(proto, proto.graph.output[0].name, SHAPE) is None
