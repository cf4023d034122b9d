from typing import Any

import numpy as np
import pytest
from graphs import GraphMaker, answers
from products import each_pair

from ct3d_edge.conversion.passes.lower_conv3d import (
    depth_im2col,
    lower_conv_transpose,
    lower_elementwise,
    lower_pool,
    lower_reduce,
    row_interleave,
    winograd_depth,
)
from ct3d_edge.conversion.passes.lower_conv3d.winograd_matrices import make_winograd_matrices

from .rewriting import Outcome, rewritten

CLOSE = 2e-6
FILTERED = 1e-5
"""Of minimal filtering, whose larger intermediate numbers round more."""


def planar(outcome: Outcome) -> bool:
    """No convolution or pooling of the file has three spatial axes."""
    attributes = [a for node in outcome.after.graph.node for a in node.attribute if a.name == "kernel_shape"]
    return all(len(a.ints) == 2 for a in attributes)


@pytest.mark.parametrize(
    ("kernel", "window", "groups"),
    each_pair(
        [(1, 1, 1), (2, 2, 2), (3, 3, 3), (5, 3, 3), (3, 3, 1), (1, 3, 3)],
        [
            {},
            {"strides": [2, 2, 2]},
            {"strides": [1, 2, 1], "auto_pad": "SAME_UPPER"},
            {"dilations": [2, 1, 2]},
            {"pads": [1, 0, 2, 2, 1, 0]},
            {"auto_pad": "SAME_LOWER", "strides": [3, 1, 1]},
        ],
        [1, 2, 4],
    ),
)
def test_unfolding_takes_any_convolution(kernel: tuple[int, ...], window: dict[str, Any], groups: int) -> None:
    g = GraphMaker(4, 11, 7, 9)
    y = g.conv("x", 8, 4 // groups, *kernel, group=groups, bias=groups != 2, **window)
    outcome = rewritten(g.model(y), depth_im2col.RULE)
    assert outcome.rewrites == 1
    assert planar(outcome)
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize(("outputs", "taps"), [(2, 3), (4, 3), (6, 3), (2, 5), (3, 2)])
def test_minimal_filtering_is_a_filter(outputs: int, taps: int) -> None:
    method = make_winograd_matrices(outputs, taps)
    assert (method.products, method.outputs) == (outputs + taps - 1, outputs)
    draw = np.random.default_rng(0)
    signal, kernel = draw.normal(size=outputs + taps - 1), draw.normal(size=taps)
    found = method.output_transform @ ((method.kernel_transform @ kernel) * (method.input_transform @ signal))
    assert found == pytest.approx(np.correlate(signal, kernel, "valid"), abs=1e-12)
    assert (method.output_transform[:, 1] == 1).all(), "the bias reaches every output once"


@pytest.mark.parametrize(
    ("depth", "pads", "groups"),
    each_pair([3, 4, 5, 6, 8, 9, 14, 15, 120], [[0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [2, 0, 1, 0, 1, 0]], [1, 2]),
)
def test_minimal_filtering_along_depth(depth: int, pads: list[int], groups: int) -> None:
    g = GraphMaker(16, depth, 4, 5)
    outcome = rewritten(g.model(g.conv("x", 8, 16 // groups, 3, 3, 3, group=groups, pads=pads)), winograd_depth.RULE)
    if outcome.rewrites == 0:
        assert "saves nothing" in outcome.reason
        assert depth - 2 + pads[0] + pads[3] < 3
        return
    assert outcome.operators.count("MatMul") == 2
    assert planar(outcome)
    assert outcome.difference() < FILTERED


@pytest.mark.parametrize(
    ("window", "why"),
    [
        ({"strides": [2, 1, 1]}, "stride and dilation one"),
        ({"dilations": [2, 1, 1]}, "stride and dilation one"),
    ],
)
def test_minimal_filtering_says_what_it_needs(window: dict[str, Any], why: str) -> None:
    g = GraphMaker(8, 9, 5, 5)
    assert why in rewritten(g.model(g.conv("x", 8, 8, 3, 3, 3, **window)), winograd_depth.RULE).reason


def test_minimal_filtering_leaves_few_channels_alone() -> None:
    g = GraphMaker(1, 9, 5, 5)
    assert "1 input channels" in rewritten(g.model(g.conv("x", 8, 1, 3, 3, 3)), winograd_depth.RULE).reason


@pytest.mark.parametrize(
    ("planes", "tile"), [(1, None), (2, 2), (4, 4), (6, 6), (12, 6), (28, 4), (60, 6), (61, 6), (1000, 6)]
)
def test_the_tile_wastes_least(planes: int, tile: int | None) -> None:
    assert winograd_depth.choose_tile_size(planes) == tile


@pytest.mark.parametrize(
    ("channels", "size", "window", "pooling", "activated"),
    each_pair(
        [1, 2],
        [(10, 8, 8), (11, 9, 7)],
        [
            {},
            {"pads": [1] * 6},
            {"dilations": [1, 2, 1]},
            {"strides": [2, 1, 2]},
            {"auto_pad": "SAME_UPPER"},
        ],
        [{"strides": [2, 2, 2]}, {"strides": [2, 1, 2], "pads": [0, 1, 0, 0, 1, 0]}],
        [True, False],
    ),
)
def test_convolution_and_pooling_in_alternating_rows(
    channels: int, size: tuple[int, ...], window: dict[str, Any], pooling: dict[str, Any], activated: bool
) -> None:
    g = GraphMaker(channels, *size)
    y = g.conv("x", 16, channels, 3, 3, 3, **window)
    y = g.op("MaxPool", g.op("Relu", y) if activated else y, kernel_shape=[2, 2, 2], **pooling)
    outcome = rewritten(g.model(y), row_interleave.RULE)
    assert outcome.rewrites == 1
    assert planar(outcome)
    assert [outcome.operators.count(name) for name in ("Conv", "MaxPool")] == [1, 1]
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize(
    ("inputs", "pooling"),
    [(8, {"strides": [2, 2, 2]}), (1, {"strides": [1, 2, 2]}), (1, {"strides": [2, 2, 2], "pads": [1, 0, 0, 0, 0, 0]})],
)
def test_rows_do_not_alternate_where_it_does_not_fit_or_pay(inputs: int, pooling: dict[str, Any]) -> None:
    g = GraphMaker(inputs, 8, 8, 8)
    y = g.op("MaxPool", g.conv("x", 16, inputs, 3, 3, 3), kernel_shape=[2, 2, 2], **pooling)
    assert rewritten(g.model(y), row_interleave.RULE).rewrites == 0


@pytest.mark.parametrize(
    ("operator", "window", "behind"),
    each_pair(
        ["MaxPool", "AveragePool"],
        [
            {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]},
            {"kernel_shape": [3, 2, 2], "strides": [1, 2, 2]},
            {"kernel_shape": [2, 1, 1], "strides": [2, 1, 1]},
            {"kernel_shape": [1, 2, 3], "strides": [1, 2, 2]},
            {"kernel_shape": [3, 3, 3], "strides": [2, 2, 2], "auto_pad": "SAME_UPPER"},
            {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "ceil_mode": 1},
            {"kernel_shape": [3, 3, 3], "strides": [2, 1, 2], "pads": [1, 1, 0, 0, 1, 1]},
        ],
        ["convolution", "input"],
    ),
)
def test_pooling_plane_by_plane(operator: str, window: dict[str, Any], behind: str) -> None:
    g = GraphMaker(4, 9, 8, 7)
    y = g.conv("x", 4, 4, 1, 1, 1) if behind == "convolution" else "x"
    outcome = rewritten(g.model(g.op(operator, y, **window)), depth_im2col.RULE, lower_pool.RULE)
    assert planar(outcome)
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize(
    ("kernel", "window", "groups"),
    each_pair(
        [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 2, 3), (1, 3, 3)],
        [
            {},
            {"strides": [2, 2, 2]},
            {"strides": [3, 1, 2], "output_padding": [2, 0, 1]},
            {"strides": [2, 2, 2], "pads": [1, 0, 1, 1, 0, 0], "output_padding": [1, 0, 0]},
            {"dilations": [2, 1, 2], "pads": [0, 0, 0, 0, 0, 0]},
            {"auto_pad": "VALID", "strides": [1, 2, 1]},
        ],
        [1, 2],
    ),
)
def test_transposed_convolutions_plane_by_plane(kernel: tuple[int, ...], window: dict[str, Any], groups: int) -> None:
    if kernel[0] == 1:
        window = {name: value for name, value in window.items() if name not in ("pads", "output_padding")}
    g = GraphMaker(4, 5, 4, 3)
    bias = [] if groups == 2 else [g.normal(6)]
    y = g.op("ConvTranspose", "x", g.normal(4, 6 // groups, *kernel), *bias, group=groups, **window)
    outcome = rewritten(g.model(y), lower_conv_transpose.RULE)
    assert outcome.rewrites == 1
    assert all(len(node.attribute[0].ints) < 3 for node in outcome.after.graph.node if node.op_type == "ConvTranspose")
    assert outcome.difference() < CLOSE


def test_transposed_convolutions_whose_kernel_is_their_stride_add_nothing() -> None:
    g = GraphMaker(4, 5, 4, 3)
    y = g.op("ConvTranspose", "x", g.normal(4, 6, 2, 2, 2), strides=[2, 2, 2])
    outcome = rewritten(g.model(y), lower_conv_transpose.RULE)
    assert not {"Add", "Gather", "Pad"} & set(outcome.operators)


@pytest.mark.parametrize("left_open", [{"auto_pad": "SAME_UPPER"}, {"output_shape": [10, 8, 6]}])
def test_transposed_convolutions_that_leave_their_padding_open_are_refused(left_open: dict[str, Any]) -> None:
    g = GraphMaker(4, 5, 4, 3)
    y = g.op("ConvTranspose", "x", g.normal(4, 6, 3, 3, 3), strides=[2, 2, 2], **left_open)
    assert "runtimes disagree" in rewritten(g.model(y), lower_conv_transpose.RULE).reason


def test_an_average_that_counts_its_padding_is_kept() -> None:
    g = GraphMaker(2, 5, 6, 7)
    y = g.op("AveragePool", "x", kernel_shape=[3, 3, 3], pads=[1] * 6, count_include_pad=1)
    outcome = rewritten(g.model(y), lower_pool.RULE)
    assert planar(outcome)
    assert outcome.difference() < CLOSE


def test_a_pooling_that_tells_places_is_refused() -> None:
    g = GraphMaker(2, 4, 4, 4)
    outcome = rewritten(g.model(g.op("MaxPool", "x", outputs=2, kernel_shape=[2, 2, 2])), lower_pool.RULE)
    assert "where the maxima are" in outcome.reason


def test_elementwise_operators_stay_on_planes() -> None:
    g = GraphMaker(4, 5, 6, 7)
    y = g.conv("x", 4, 4, 3, 3, 3, pads=[1] * 6)
    statistics = (g.normal(4), g.normal(4), g.normal(4), np.abs(g.normal(4)) + np.float32(0.1))
    y = g.op("BatchNormalization", g.affine(g.op("Relu", y), 4), *statistics)
    y = g.conv(g.op("Add", y, "x"), 4, 4, 3, 3, 3)
    outcome = rewritten(g.model(y), depth_im2col.RULE, lower_elementwise.RULE)
    assert planar(outcome)
    assert outcome.operators.count("Transpose") <= 3, "one in, one for the residual, one out"
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
def test_a_global_pooling_reads_planes(operator: str, keep: int) -> None:
    g = GraphMaker(4, 5, 6, 7)
    y = g.op(operator, g.conv("x", 8, 4, 1, 1, 1), np.array([2, 3, 4]), keepdims=keep)
    outcome = rewritten(g.model(y), depth_im2col.RULE, lower_reduce.RULE)
    assert outcome.operators.count("Transpose") == 1, "the way in alone"
    assert outcome.difference() < CLOSE


def test_a_global_average_of_a_large_map_rounds_little() -> None:
    g = GraphMaker(8, 40, 40, 40)
    y = g.op("ReduceMean", g.op("Relu", g.conv("x", 8, 8, 1, 1, 1)), np.array([2, 3, 4]), keepdims=0)
    outcome = rewritten(g.model(y, "conv0_0"), depth_im2col.RULE, lower_elementwise.RULE, lower_reduce.RULE)
    x = g.draw.normal(3, 1, (1, *g.shape)).astype(np.float32)
    found, features = answers(outcome.after, x)
    expected = np.maximum(features, 0).mean((2, 3, 4), dtype=np.float64)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-6


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pooling_operators_are_named_reductions(operator: str) -> None:
    g = GraphMaker(2, 3, 4, 5)
    outcome = rewritten(g.model(g.op(operator, "x")), lower_reduce.RULE)
    assert outcome.operators == ["ReduceMean" if "Average" in operator else "ReduceMax"]
    assert outcome.difference() < CLOSE


def test_a_reduction_over_other_axes_is_refused_and_correct() -> None:
    g = GraphMaker(4, 5, 6, 7)
    y = g.op("ReduceMean", g.conv("x", 8, 4, 1, 1, 1), np.array([2, 3]), keepdims=0)
    outcome = rewritten(g.model(y), depth_im2col.RULE, lower_reduce.RULE)
    assert "other axes" in outcome.reason
    assert outcome.difference() < CLOSE
