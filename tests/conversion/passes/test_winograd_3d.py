from functools import partial
from math import inf, prod
from typing import Any

import numpy as np
import pytest
from graphs import GraphMaker
from products import each_pair

from ct3d_edge.conversion.passes.lower_conv3d import depth_im2col, winograd_3d, winograd_depth
from ct3d_edge.conversion.passes.lower_conv3d.winograd_tiles import Tiling, cheapest_tiling
from ct3d_edge.conversion.passes.pipeline import optimize_graph
from ct3d_edge.conversion.passes.rule import RewriteRule
from ct3d_edge.conversion.passes.window import Window, WindowAxis

from .rewriting import rewritten

CLOSE = 5e-5
"""Three steps of minimal filtering one in the other round more than one."""

ALWAYS = RewriteRule("whatever it costs", frozenset({"Conv"}), partial(winograd_3d.check, worthwhile=inf))


def window_of(*sizes: int, padding: int = 0) -> Window:
    return Window(tuple(WindowAxis(size, 3, begin=padding, end=padding) for size in sizes))


@pytest.mark.parametrize(
    ("size", "pads", "bias"),
    each_pair(
        [(3, 3, 3), (6, 8, 14), (9, 7, 5), (4, 12, 21)],
        [[0] * 6, [1] * 6, [2, 0, 1, 0, 1, 3], [0, 1, 0, 0, 1, 0]],
        [True, False],
    ),
)
def test_the_same_convolution_without_a_convolution(size: tuple[int, ...], pads: list[int], bias: bool) -> None:
    g = GraphMaker(4, *size)
    outcome = rewritten(g.model(g.conv("x", 6, 4, 3, 3, 3, bias=bias, pads=pads)), ALWAYS)
    assert outcome.rewrites == 1
    assert "Conv" not in outcome.operators
    assert outcome.operators.count("Add") == bias
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_padding_by_name(mode: str) -> None:
    g = GraphMaker(4, 7, 6, 9)
    outcome = rewritten(g.model(g.conv("x", 4, 4, 3, 3, 3, auto_pad=mode)), ALWAYS)
    assert outcome.operators.count("Pad") == (mode != "VALID")
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize(
    ("size", "pool", "activated"),
    each_pair([(10, 8, 14), (11, 9, 7)], [(2, 2, 2), (1, 2, 2), (3, 2, 1), (3, 3, 3)], [True, False]),
)
def test_relu_and_pooling_are_taken_along(size: tuple[int, ...], pool: tuple[int, ...], activated: bool) -> None:
    g = GraphMaker(4, *size)
    y = g.conv("x", 6, 4, 3, 3, 3)
    y = g.op("MaxPool", g.op("Relu", y) if activated else y, kernel_shape=pool, strides=pool)
    outcome = rewritten(g.model(y), ALWAYS)
    assert "MaxPool" not in outcome.operators
    assert outcome.operators.count("Relu") == activated
    assert outcome.operators.count("ReduceMax") == sum(size > 1 for size in pool)
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize(
    "pooling",
    [
        {"kernel_shape": [3, 3, 3], "strides": [2, 2, 2]},
        {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "pads": [1, 0, 0, 0, 0, 0]},
        {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "ceil_mode": 1},
        {"kernel_shape": [5, 1, 1], "strides": [5, 1, 1]},
    ],
)
def test_a_pooling_that_does_not_divide_the_tiles_stays(pooling: dict[str, Any]) -> None:
    g = GraphMaker(4, 9, 9, 9)
    outcome = rewritten(g.model(g.op("MaxPool", g.op("Relu", g.conv("x", 4, 4, 3, 3, 3)), **pooling)), ALWAYS)
    assert outcome.operators.count("MaxPool") == 1
    assert "Conv" not in outcome.operators
    assert outcome.difference() < CLOSE


def test_what_others_use_too_stays() -> None:
    g = GraphMaker(4, 8, 8, 8)
    features = g.op("Relu", g.conv("x", 4, 4, 3, 3, 3))
    pooled = g.op("MaxPool", features, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    mean = g.op("ReduceMean", features, np.array([2, 3, 4]))
    outcome = rewritten(g.model(pooled, mean), ALWAYS)
    assert outcome.operators.count("MaxPool") == 1
    assert outcome.difference() < CLOSE


def test_one_after_the_other_stays_channels_last() -> None:
    g = GraphMaker(4, 10, 9, 8)
    y = g.op("Relu", g.conv("x", 4, 4, 3, 3, 3))
    outcome = rewritten(g.model(g.conv(y, 4, 4, 3, 3, 3)), ALWAYS)
    turns = [node for node in outcome.after.graph.node if node.op_type == "Transpose"]
    assert sum(len(node.attribute[0].ints) == 5 for node in turns) == 2, "one in, one out"
    assert outcome.difference() < CLOSE


def test_pieces_of_planes_are_turned_one_by_one() -> None:
    g = GraphMaker(4, 12, 8, 8)
    parts = [g.op("Slice", "x", np.array([n]), np.array([n + 4]), np.array([2])) for n in (0, 4, 8)]
    y = g.op("Concat", *(g.conv(part, 4, 4, 1, 1, 1) for part in parts), axis=2)
    outcome = rewritten(g.model(g.conv(y, 4, 4, 3, 3, 3)), unfold_small, ALWAYS)
    turns = [list(node.attribute[0].ints) for node in outcome.after.graph.node if node.op_type == "Transpose"]
    assert turns.count([0, 2, 3, 1]) == 3
    assert outcome.difference() < CLOSE


def _only_small(node: Any) -> Any:
    return depth_im2col.RULE.check(node) if node.inputs[1].shape[2] == 1 else None


unfold_small = RewriteRule("kernels of one voxel", frozenset({"Conv"}), _only_small)


@pytest.mark.parametrize(
    ("kernel", "window", "why"),
    [
        ((3, 3, 3), {"strides": [1, 2, 1]}, "stride and dilation one"),
        ((3, 3, 3), {"dilations": [1, 1, 2]}, "stride and dilation one"),
        ((3, 3, 1), {}, "three voxels along each"),
        ((3, 3, 3), {"group": 2}, "without groups"),
    ],
)
def test_it_says_what_it_needs(kernel: tuple[int, ...], window: dict[str, Any], why: str) -> None:
    g = GraphMaker(8, 9, 9, 9)
    inputs = 8 // window.get("group", 1)
    assert why in rewritten(g.model(g.conv("x", 8, inputs, *kernel, **window)), ALWAYS).reason


@pytest.mark.parametrize(("channels", "size", "pays"), [(64, 18, True), (64, 8, False), (8, 34, False)])
def test_it_is_done_where_it_pays(channels: int, size: int, pays: bool) -> None:
    g = GraphMaker(channels, size, size, size)
    outcome = rewritten(g.model(g.conv("x", channels, channels, 3, 3, 3)), winograd_3d.RULE)
    assert outcome.rewrites == pays
    if pays:
        assert outcome.difference(batch=1) < CLOSE
    else:
        assert f"does not pay with {channels} and {channels} channels" in outcome.reason


@pytest.mark.parametrize("padding", [0, 1, 5])
def test_blocks_read_every_plane_that_they_need(padding: int) -> None:
    window = window_of(23, 200, 200, padding=padding)
    tiling = Tiling(window, (4, 4, 4), 64, 64)
    blocks = list(tiling.blocks())
    assert len(blocks) > 1
    assert [first for first, _ in blocks[1:]] == [last for _, last in blocks[:-1]]
    assert (blocks[0][0], blocks[-1][1]) == (0, tiling.counts[0])
    whole = winograd_depth.input_transform_matrix(window.axes[0], tiling.axis_matrices[0], tiling.counts[0]).reshape(
        tiling.counts[0], 6, 23
    )
    for first, last in blocks:
        low, high, matrix = tiling.depth_transform(first, last)
        found = np.zeros((6, last - first, 23))
        found[:, :, low:high] = matrix.reshape(6, last - first, high - low)
        assert found == pytest.approx(whole[first:last].transpose(1, 0, 2))


def test_the_cheapest_tiling_is_taken() -> None:
    window = window_of(62, 62, 30)
    chosen = cheapest_tiling(window, (2, 2, 2), 64, 64)
    assert chosen is not None
    assert (chosen.outputs, chosen.products) == ((6, 4, 4), 8 * 6 * 6)
    assert chosen.weight_growth == pytest.approx(8 * 6 * 6 / 27)
    smaller = [Tiling(window, (a, b, c), 64, 64) for a in (2, 4, 6) for b in (2, 4) for c in (2, 4)]
    assert chosen.cost == min(tiling.cost for tiling in smaller)
    assert chosen.cost < prod(window.out) * 27 * 64 * 64 / 3
    thrice = cheapest_tiling(window, (3, 1, 3), 64, 64)
    assert thrice is not None
    assert thrice.outputs[::2] == (6, 6)
    assert thrice.outputs[1] < 6, "what rounds most is left to where it must be"


def test_a_pooling_of_five_fits_into_no_tile() -> None:
    assert cheapest_tiling(window_of(20, 20, 20), (5, 1, 1), 8, 8) is None


def wide_network() -> Any:
    g = GraphMaker(1, 26, 26, 26)
    y = g.op("Relu", g.conv("x", 64, 1, 3, 3, 3))
    y = g.op("Relu", g.conv(y, 64, 64, 3, 3, 3, pads=[1] * 6))
    y = g.op("MaxPool", y, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    return g.model(g.op("ReduceMean", y, np.array([2, 3, 4])))


@pytest.mark.parametrize(
    ("target", "winograd_axes", "convolutions"), [("cpu", "all", 1), ("cpu", "depth", 2), ("no-conv3d", "all", 2)]
)
def test_only_fast_files_for_cpu_in_float32_have_it(target: Any, winograd_axes: Any, convolutions: int) -> None:
    done = optimize_graph(wide_network(), "fast", target, winograd_axes=winograd_axes, strict=True).proto
    named = {node.name.split("/")[0] for node in done.graph.node if node.op_type == "Conv"}
    assert len(named) == convolutions
