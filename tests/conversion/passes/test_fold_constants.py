"""What exporters compute although it is known, and poolings whose last window does not fit."""

from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import GraphMaker, difference, operators
from onnx import numpy_helper

from ct3d_edge.conversion.passes.pipeline import optimize_graph

from .rewriting import rewritten

ZERO = numpy_helper.from_array(np.zeros(1, np.int64))


def padded_as_torch_does(g: GraphMaker) -> str:
    """`torch.nn.functional.pad`: pads of the last axes first, filled up with zeros, then turned round."""
    given = np.array([1, 1, 2, 0, 1, 0], np.int64)
    missing = g.op("ConstantOfShape", g.op("Sub", np.array([10], np.int64), g.op("Shape", given)), value=ZERO)
    pairs = g.op("Reshape", g.op("Concat", given, missing, axis=0), np.array([-1, 2], np.int64))
    backwards = g.op("Slice", pairs, *(np.array([n], np.int64) for n in (-1, -1_000_000, 0, -1)))
    flat = g.op("Reshape", g.op("Transpose", backwards, perm=[1, 0]), np.array([-1], np.int64))
    return g.op("Pad", "x", g.op("Cast", flat, to=onnx.TensorProto.INT64))


def test_padding_that_is_computed_from_constants_is_known() -> None:
    g = GraphMaker(2, 6, 5, 4)
    before = g.model(g.conv(padded_as_torch_does(g), 4, 2, 3, 3, 3))
    for level, target in (("exact", "cpu"), ("fast", "no-conv3d")):
        after = optimize_graph(before, level, target, strict=True).proto  # type: ignore[arg-type]  # literals
        assert not {"ConstantOfShape", "Concat", "Shape", "Cast", "Sub"} & set(operators(after))
        assert difference(before, after, g.shape) < 2e-6


def test_lengths_of_axes_are_known_although_the_batch_is_not() -> None:
    g = GraphMaker(2, 6, 5, 4)
    lengths = g.op("Shape", "x")
    depth = g.op("Gather", lengths, np.array([2]), axis=0)
    ends = g.op("Concat", depth, g.op("Slice", lengths, np.array([3]), np.array([5])), axis=0)
    halves = g.op("Div", ends, np.array([2]))
    y = g.op("Slice", "x", np.zeros(3, np.int64), halves, np.array([2, 3, 4]))
    before = g.model(g.conv(y, 4, 2, 1, 1, 1))
    after = optimize_graph(before, "exact", strict=True).proto
    assert operators(after) == ["Slice", "Conv"]
    assert difference(before, after, g.shape) == 0


def test_the_batch_stays_open_and_floats_are_left_to_the_runtime() -> None:
    g = GraphMaker(2, 6, 5, 4)
    batch = g.op("Gather", g.op("Shape", "x"), np.array([0]), axis=0)
    flat = g.op("Reshape", "x", g.op("Concat", batch, np.array([-1]), axis=0))
    y = g.op("Mul", flat, g.op("Sqrt", np.array([2], np.float32)))
    after = rewritten(g.model(y))
    assert {"Shape", "Gather", "Concat", "Sqrt"} <= set(after.operators)
    assert after.difference(batch=1) == after.difference(batch=3) == 0


WINDOWS = [
    {"kernel_shape": [k] * 3, "strides": [s] * 3, "pads": [p] * 6, "ceil_mode": 1}
    for k, s, p in product((1, 2, 3), (1, 2, 3), (0, 1))
    if p < k
]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("size", [7, 8])
def test_windows_that_do_not_fit_are_written_as_padding(window: dict[str, Any], size: int) -> None:
    for operator in ("MaxPool", "AveragePool"):
        g = GraphMaker(2, size, size, size)
        y = g.op("Relu", g.op(operator, "x", **window))
        before = g.model(y)
        for axis in before.graph.output[0].type.tensor_type.shape.dim[2:]:
            axis.ClearField("dim_value")  # which ONNX's inference may have counted too many of
        for level in ("exact", "fast"):
            after = optimize_graph(before, level, strict=True).proto
            onnx.checker.check_model(after, full_check=True)
            assert not [a for node in after.graph.node for a in node.attribute if a.name == "ceil_mode"]
            assert difference(before, after, g.shape) < 2e-6


def test_a_folded_scalar_stays_one() -> None:
    g = GraphMaker(2, 6, 5, 4)
    length = g.op("Gather", g.op("Shape", "x"), np.array(3), axis=0)
    before = g.model(g.op("Add", "x", g.op("Cast", length, to=onnx.TensorProto.FLOAT)))
    after = optimize_graph(before, "exact", strict=True).proto
    (folded,) = [tensor for tensor in after.graph.initializer if "known" in tensor.name]
    assert list(folded.dims) == []
    assert difference(before, after, g.shape) == 0
