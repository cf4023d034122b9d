from typing import Any

import pytest
from graphs import GraphMaker, operators
from products import each_value

from ct3d_edge.conversion.passes.depth_tiling import make_depth_tiling_rule
from ct3d_edge.conversion.passes.lower_conv3d import (
    depth_im2col,
    lower_elementwise,
    lower_pool,
    lower_slice_concat,
    row_interleave,
    winograd_depth,
)
from ct3d_edge.conversion.passes.pipeline import optimize_graph

from .rewriting import rewritten

CLOSE = 2e-6


def block(g: GraphMaker, x: str, inputs: int, outputs: int, **window: Any) -> str:
    y = g.op("Relu", g.conv(x, outputs, inputs, 3, 3, 3, **window))
    return g.op("MaxPool", y, kernel_shape=[2, 2, 2], strides=[2, 2, 2])


@pytest.mark.parametrize(
    ("window", "budget"),
    each_value([{}, {"auto_pad": "SAME_UPPER"}, {"dilations": [2, 1, 1]}, {"strides": [2, 2, 2]}], [3_000, 9_000]),
)
def test_a_block_is_computed_in_pieces(window: dict[str, Any], budget: int) -> None:
    g = GraphMaker(1, 17, 10, 9)
    outcome = rewritten(g.model(block(g, "x", 1, 32, **window)), make_depth_tiling_rule(budget, 1))
    assert outcome.operators[-1] == "Concat"
    assert outcome.operators.count("Conv") == outcome.operators.count("MaxPool") > 1
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize("padding", [{}, {"auto_pad": "SAME_LOWER"}])
@pytest.mark.parametrize("channels", [1, 3])
def test_two_blocks_are_computed_in_pieces_that_overlap(padding: dict[str, Any], channels: int) -> None:
    g = GraphMaker(channels, 38, 14, 12)
    y = block(g, g.affine(block(g, "x", channels, 16, **padding), 16), 16, 16, **padding)
    outcome = rewritten(g.model(y), make_depth_tiling_rule(40_000, 2))
    assert outcome.operators[-1] == "Concat"
    assert outcome.operators.count("Conv") >= 4
    assert outcome.difference() < CLOSE


def test_pieces_of_planes_need_no_way_back_to_volumes() -> None:
    g = GraphMaker(1, 38, 24, 22)
    y = block(g, block(g, block(g, "x", 1, 16), 16, 16), 16, 8)
    streamed = make_depth_tiling_rule(40_000, 2), make_depth_tiling_rule(10_000, 1)
    outcome = rewritten(g.model(y), *streamed)
    planar = rewritten(outcome.after, row_interleave.RULE)
    planar = rewritten(
        planar.after,
        winograd_depth.RULE,
        lower_slice_concat.RULE,
        depth_im2col.RULE,
        lower_pool.RULE,
        lower_elementwise.RULE,
    )
    turned = [
        node for node in planar.after.graph.node if node.op_type == "Transpose" and len(node.attribute[0].ints) == 5
    ]
    assert len(turned) == 1, "the network's answer alone"
    assert planar.difference() < 1e-5


def test_what_fits_the_budget_stays_whole() -> None:
    g = GraphMaker(1, 17, 10, 9)
    assert rewritten(g.model(block(g, "x", 1, 32)), make_depth_tiling_rule(10_000_000, 1)).rewrites == 0


def test_what_pieces_would_not_make_smaller_stays_whole() -> None:
    g = GraphMaker(32, 17, 10, 9)
    outcome = rewritten(g.model(block(g, "x", 32, 8)), make_depth_tiling_rule(6_000, 1))
    assert outcome.rewrites == 0
    assert "about as large" in outcome.reason


@pytest.mark.parametrize(
    ("kernel", "pads"),
    each_value([1, 2, 3], [[1, 0, 0, 0, 0, 0], [0, 0, 0, 2, 0, 0], [2] * 6, [3, 0, 0, 3, 0, 0], [5, 1, 1, 4, 1, 1]]),
)
@pytest.mark.parametrize("strides", [[1, 1, 1], [2, 1, 1]])
def test_pieces_that_lie_in_the_padding_alone(kernel: int, pads: list[int], strides: list[int]) -> None:
    g = GraphMaker(2, 9, 8, 8)
    y = g.op("Relu", g.conv("x", 16, 2, kernel, kernel, kernel, pads=pads, strides=strides))
    y = g.op("MaxPool", y, kernel_shape=[1, 2, 2], strides=[1, 2, 2])
    streamed = make_depth_tiling_rule(3_000, 1)
    assert rewritten(g.model(y), streamed).difference() < CLOSE
    assert rewritten(g.model(y), streamed, winograd_depth.RULE, depth_im2col.RULE).difference() < 1e-5


def test_a_window_that_lies_in_the_padding_alone_is_not_streamed() -> None:
    g = GraphMaker(1, 9, 8, 8)
    y = g.op("MaxPool", g.conv("x", 16, 1, 1, 1, 1, pads=[2] * 6), kernel_shape=[1, 2, 2], strides=[1, 2, 2])
    assert "padding alone" in rewritten(g.model(y), make_depth_tiling_rule(3_000, 1)).reason


@pytest.mark.parametrize(("operator", "counted"), [("MaxPool", None), ("AveragePool", 0), ("AveragePool", 1)])
def test_windows_that_do_not_fit_are_streamed_with_padding_unless_it_is_counted(
    operator: str, counted: int | None
) -> None:
    g = GraphMaker(1, 18, 10, 9)
    more = {} if counted is None else {"count_include_pad": counted}
    y = g.op(operator, g.conv("x", 32, 1, 3, 3, 3), kernel_shape=[3, 3, 3], strides=[2, 2, 2], ceil_mode=1, **more)
    outcome = rewritten(g.model(y), make_depth_tiling_rule(6_000, 1))
    assert "ceil_mode" in outcome.reason if counted else outcome.rewrites
    assert outcome.difference() < CLOSE


def test_a_smaller_budget_makes_more_pieces() -> None:
    g = GraphMaker(1, 40, 14, 12)
    y = block(g, block(g, "x", 1, 32), 32, 32)
    proto = g.model(y)
    counts = [
        operators(optimize_graph(proto, "small", "cpu", budget).proto).count("Conv") for budget in (10**4, 10**5, 10**7)
    ]
    assert counts[0] > counts[1] > counts[2] == 2
