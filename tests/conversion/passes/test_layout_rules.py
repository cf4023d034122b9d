import numpy as np
import pytest
from graphs import GraphMaker
from products import each_pair

from ct3d_edge.conversion.passes import cancel_transposes, crop_unused, merge_reshapes, reduce_channels_first

from .rewriting import rewritten

LAST, FIRST = [0, 2, 3, 4, 1], [0, 4, 1, 2, 3]
"""Channels to the end, and back."""


def test_transposes_that_undo_each_other_go() -> None:
    g = GraphMaker(2, 3, 4, 5)
    y = g.op("Relu", g.op("Transpose", g.op("Transpose", "x", perm=LAST), perm=FIRST))
    outcome = rewritten(g.model(y), cancel_transposes.RULE)
    assert outcome.operators == ["Relu"]
    assert outcome.difference() == 0


def test_two_transposes_become_one() -> None:
    g = GraphMaker(2, 3, 4, 5)
    y = g.op("Transpose", g.op("Transpose", "x", perm=LAST), perm=[0, 2, 1, 3, 4])
    outcome = rewritten(g.model(y), cancel_transposes.RULE)
    assert outcome.operators == ["Transpose"]
    assert outcome.difference() == 0


def test_a_round_trip_around_elementwise_operators_goes_with_constants_and_a_second_branch() -> None:
    g = GraphMaker(2, 3, 4, 5)
    a = g.op("Mul", g.op("Transpose", "x", perm=LAST), g.normal(1, 1, 1, 1, 2))
    b = g.op("Relu", g.op("Transpose", "x", perm=LAST))
    y = g.op("Transpose", g.op("Add", a, b), perm=FIRST)
    outcome = rewritten(g.model(y), cancel_transposes.RULE)
    assert sorted(outcome.operators) == ["Add", "Mul", "Relu"]
    assert outcome.difference() == 0


def test_a_transpose_that_is_the_whole_network_leaves_a_valid_file() -> None:
    g = GraphMaker(2, 3, 4, 5)
    outcome = rewritten(
        g.model(g.op("Transpose", g.op("Transpose", "x", perm=LAST), perm=FIRST)), cancel_transposes.RULE
    )
    assert outcome.difference() == 0


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
def test_a_global_pooling_loses_its_transpose(operator: str) -> None:
    g = GraphMaker(2, 3, 4, 5)
    y = g.op(operator, g.op("Transpose", "x", perm=LAST), np.array([1, 2, 3]), keepdims=0)
    outcome = rewritten(g.model(y), reduce_channels_first.RULE)
    assert outcome.operators == [operator]
    assert outcome.difference() < 1e-6


def test_a_reduction_that_would_change_the_order_keeps_its_transpose() -> None:
    g = GraphMaker(2, 3, 4, 5)
    y = g.op("ReduceMean", g.op("Transpose", "x", perm=[0, 4, 1, 2, 3]), np.array([2]), keepdims=0)
    outcome = rewritten(g.model(y), reduce_channels_first.RULE)
    assert outcome.rewrites == 0
    assert "order" in outcome.reason


def test_reshapes_in_a_row_become_one_or_none() -> None:
    g = GraphMaker(2, 3, 4, 5)
    y = g.op("Reshape", g.op("Reshape", "x", np.array([-1, 6, 20])), np.array([-1, 2, 60]))
    outcome = rewritten(g.model(y), merge_reshapes.RULE)
    assert outcome.operators == ["Reshape"]
    assert outcome.difference() == 0
    z = g.op("Relu", g.op("Reshape", y, np.array([-1, 2, 3, 4, 5])))
    assert rewritten(g.model(z), merge_reshapes.RULE).operators == ["Relu"]


def test_a_reshape_that_copies_a_length_stays() -> None:
    g = GraphMaker(2, 3)
    y = g.op("Reshape", g.op("Reshape", "x", np.array([-1, 3, 2])), np.array([0, 0, -1]))
    assert rewritten(g.model(y), merge_reshapes.RULE).rewrites == 0


@pytest.mark.parametrize(
    ("size", "padded", "stride"), each_pair([(9, 9, 9), (8, 9, 10), (7, 8, 11)], [False, True], [1, 2])
)
def test_what_two_poolings_drop_is_cut_off_at_the_input(size: tuple[int, int, int], padded: bool, stride: int) -> None:
    g = GraphMaker(1, *size)
    y = g.conv("x", 8, 1, 3, 3, 3, pads=[1] * 6 if padded else [0] * 6, strides=[stride] * 3)
    y = g.op("AveragePool", g.affine(g.op("Relu", y), 8), kernel_shape=[2, 2, 2], pads=[1, 1, 1, 0, 0, 0])
    y = g.op("MaxPool", g.conv(y, 8, 8, 2, 2, 2), kernel_shape=[2, 2, 2], strides=[2, 2, 2], ceil_mode=0)
    outcome = rewritten(g.model(y), crop_unused.RULE)
    assert outcome.difference() == 0
    if outcome.rewrites:
        assert "MaxPool" in outcome.operators[-1]
        assert outcome.operators.index("Conv") <= 1, "nothing but a Slice may stand in front"


def test_a_pooling_that_drops_nothing_is_left_alone() -> None:
    g = GraphMaker(1, 10, 8, 6)
    y = g.op("MaxPool", g.conv("x", 8, 1, 3, 3, 3), kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    assert rewritten(g.model(y), crop_unused.RULE).rewrites == 0
    g = GraphMaker(1, 11, 8, 6)
    y = g.op("MaxPool", g.conv("x", 8, 1, 3, 3, 3), kernel_shape=[2, 2, 2], strides=[2, 2, 2], ceil_mode=1)
    assert rewritten(g.model(y), crop_unused.RULE).rewrites == 0


def test_a_dropped_plane_is_sliced_off_once() -> None:
    g = GraphMaker(1, 11, 8, 6)
    y = g.op("MaxPool", g.conv("x", 64, 1, 3, 3, 3), kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    outcome = rewritten(g.model(y), crop_unused.RULE)
    assert outcome.operators == ["Slice", "Conv", "MaxPool"]
    assert outcome.difference() == 0


def test_cutting_a_large_tensor_for_little_is_refused() -> None:
    g = GraphMaker(64, 5, 5, 5)
    y = g.op("MaxPool", g.conv("x", 1, 64, 1, 1, 1), kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    assert "cost more" in rewritten(g.model(y), crop_unused.RULE).reason
