"""The first convolution in the form of matrix units: the taps of a plane of the kernel as input channels."""

from typing import Any

import numpy as np
import onnx
import pytest
from graphs import GraphMaker, difference, operators
from products import each_pair

from ct3d_edge.conversion.passes import taps_as_channels
from ct3d_edge.conversion.passes.pipeline import Target, optimize_graph

from .rewriting import rewritten

WINDOWS: list[dict[str, Any]] = [
    {},
    {"pads": [1] * 6},
    {"pads": [0, 1, 2, 1, 0, 1]},
    {"strides": [2, 2, 2], "pads": [1] * 6},
    {"strides": [1, 3, 2]},
    {"dilations": [2, 1, 2], "pads": [2] * 6},
    {"strides": [2, 1, 2], "dilations": [1, 2, 2], "pads": [1, 0, 2, 0, 1, 1]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [1, 2, 1]},
]
KERNELS = [(3, 3, 3), (1, 3, 3), (3, 1, 3), (3, 2, 1), (2, 5, 4)]


@pytest.mark.parametrize(
    ("window", "kernel", "channels", "bias"), each_pair(range(len(WINDOWS)), KERNELS, [1, 2, 3], [True, False])
)
def test_the_same_products_are_added(window: int, kernel: tuple[int, ...], channels: int, bias: bool) -> None:
    g = GraphMaker(channels, 11, 13, 10)
    y = g.conv("x", 8, channels, *kernel, bias=bias, **WINDOWS[window])
    outcome = rewritten(g.model(g.op("Relu", y)), taps_as_channels.RULE)
    assert outcome.rewrites == 1
    assert outcome.difference() < 1e-6
    assert outcome.difference(batch=1) < 1e-6


def test_nine_taps_become_channels_of_a_kernel_along_depth() -> None:
    g = GraphMaker(1, 9, 9, 9)
    outcome = rewritten(g.model(g.conv("x", 16, 1, 3, 3, 3)), taps_as_channels.RULE)
    assert outcome.operators == ["Slice"] * 9 + ["Concat", "Conv"]
    assert [16, 9, 3, 1, 1] in [list(tensor.dims) for tensor in outcome.after.graph.initializer]
    padded = GraphMaker(1, 9, 9, 9)
    outcome = rewritten(padded.model(padded.conv("x", 16, 1, 3, 3, 3, pads=[1] * 6)), taps_as_channels.RULE)
    assert outcome.operators == ["Pad"] + ["Slice"] * 9 + ["Concat", "Conv"]


def test_a_large_plane_of_the_kernel_gives_the_taps_of_one_axis() -> None:
    g = GraphMaker(1, 16, 16, 16)
    y = g.conv("x", 8, 1, 7, 7, 7, strides=[2] * 3, pads=[3] * 6)
    outcome = rewritten(g.model(y), taps_as_channels.RULE)
    assert outcome.operators == ["Pad"] + ["Slice"] * 7 + ["Concat", "Conv"]
    assert [8, 7, 7, 7, 1] in [list(tensor.dims) for tensor in outcome.after.graph.initializer]
    assert outcome.difference() < 1e-6


def test_other_convolutions_stay() -> None:
    g = GraphMaker(4, 9, 9, 9)
    many = g.conv("x", 8, 4, 3, 3, 3)
    groups = g.conv("x", 4, 1, 3, 3, 3, group=4)
    pointwise = g.conv(g.conv("x", 1, 4, 1, 1, 1), 8, 1, 3, 1, 1)
    assert rewritten(g.model(many, groups, pointwise), taps_as_channels.RULE).rewrites == 0
    flat = GraphMaker(1, 9, 9)
    assert rewritten(flat.model(flat.conv("x", 8, 1, 3, 3)), taps_as_channels.RULE).rewrites == 0


def test_a_computed_kernel_stays_with_a_reason() -> None:
    g = GraphMaker(1, 9, 9, 9)
    kernel = g.op("Relu", g.normal(8, 1, 3, 3, 3))
    weights = g.op("Mul", kernel, g.op("ReduceMean", "x", np.array([0, 1, 2, 3, 4]), keepdims=1))
    outcome = rewritten(g.model(g.op("Conv", "x", weights)), taps_as_channels.RULE)
    assert outcome.rewrites == 0
    assert "no constants" in outcome.reason


def network() -> onnx.ModelProto:
    g = GraphMaker(1, 13, 12, 11)
    x = "x"
    for inputs, outputs in ((1, 16), (16, 16)):
        x = g.op("Relu", g.conv(x, outputs, inputs, 3, 3, 3))
        x = g.affine(g.op("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2]), outputs)
    x = g.op("ReduceMean", x, np.array([2, 3, 4]), keepdims=0)
    return g.model(g.op("Sigmoid", g.op("MatMul", x, g.normal(16, 1))))


def test_openvino_keeps_3d_and_gets_the_taps() -> None:
    before = network()
    after = optimize_graph(before, "fast", "openvino", strict=True)
    found = operators(after.proto)
    assert "Mul" not in found, "normalisations are folded"
    assert found.count("Conv") == 2
    assert found.count("Concat") == 1
    assert difference(before, after.proto, (1, 13, 12, 11)) < 1e-5
    again = optimize_graph(after.proto, "fast", "openvino", strict=True).proto
    assert operators(again) == found, "nothing is left to do"


@pytest.mark.parametrize(
    ("level", "target"), [("exact", "openvino"), ("fast", "cpu"), ("fast", "tensorrt"), ("fast", "cuda")]
)
def test_no_other_form_has_them(level: str, target: Target) -> None:
    steps = optimize_graph(network(), level, target).steps  # type: ignore[arg-type]  # literals
    assert "taps as channels" not in [step.name for step in steps]
