from typing import Any

import numpy as np
import pytest
from graphs import GraphMaker, operators

from ct3d_edge.conversion.passes import (
    fold_into_dense,
    fold_into_next,
    fold_into_previous,
    swap_affine_pool,
    swap_relu_pool,
)
from ct3d_edge.conversion.passes.pipeline import optimize_graph
from ct3d_edge.conversion.passes.rule import RewriteRule

from .rewriting import rewritten

CLOSE = 2e-6
"""Of float32 sums in another order, relative to the largest output."""


@pytest.mark.parametrize(("groups", "bias"), [(1, True), (1, False), (2, True), (4, False)])
def test_a_map_folds_into_the_convolution_before_whatever_the_padding(groups: int, bias: bool) -> None:
    g = GraphMaker(4, 6, 5, 7)
    y = g.conv("x", 8, 4 // groups, 3, 3, 3, bias=bias, group=groups, pads=[1] * 6)
    outcome = rewritten(g.model(g.affine(y, 8)), fold_into_previous.RULE)
    assert outcome.operators == ["Conv"]
    assert outcome.difference() < CLOSE


def test_batch_normalization_folds_backward() -> None:
    g = GraphMaker(2, 6, 5, 7)
    statistics = (g.normal(4), g.normal(4), g.normal(4), np.abs(g.normal(4)) + np.float32(0.1))
    y = g.op("BatchNormalization", g.conv("x", 4, 2, 3, 3, 3), *statistics, epsilon=1e-3)
    outcome = rewritten(g.model(y), fold_into_previous.RULE)
    assert outcome.operators == ["Conv"]
    assert outcome.difference() < CLOSE


def test_runs_of_maps_become_one() -> None:
    g = GraphMaker(3, 4, 4, 4)
    y = g.affine(g.affine("x", 3), 3)
    y = g.op("Sub", np.float32(2) * np.ones((1, 1, 1, 1), np.float32), g.op("Div", y, np.array([4], np.float32)))
    outcome = rewritten(g.model(y), fold_into_previous.RULE)
    assert outcome.operators == ["Mul", "Add"]
    assert outcome.difference() < CLOSE


def test_a_convolution_that_others_use_is_left_alone() -> None:
    g = GraphMaker(2, 6, 5, 7)
    y = g.conv("x", 2, 2, 3, 3, 3)
    outcome = rewritten(g.model(g.op("Mul", y, g.normal(1, 2, 1, 1, 1)), g.op("Relu", y)), fold_into_previous.RULE)
    assert outcome.rewrites == 0
    assert "used elsewhere" in outcome.reason


def test_a_map_that_differs_between_voxels_is_no_affine_map() -> None:
    g = GraphMaker(2, 3, 3, 3)
    y = g.conv("x", 2, 2, 1, 1, 1)
    outcome = rewritten(g.model(g.op("Mul", y, g.normal(1, 2, 3, 3, 3))), fold_into_previous.RULE)
    assert (outcome.rewrites, outcome.refusals) == (0, ())


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_a_map_folds_into_the_convolution_behind(groups: int, bias: bool) -> None:
    g = GraphMaker(4, 6, 5, 7)
    y = g.conv(g.affine("x", 4), 6, 4 // groups, 3, 3, 3, bias=bias, group=groups, strides=[2, 1, 1])
    outcome = rewritten(g.model(y), fold_into_next.RULE)
    assert outcome.operators == ["Conv"]
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize("padding", [{"pads": [0, 0, 1, 0, 0, 0]}, {"auto_pad": "SAME_UPPER"}])
def test_in_front_of_padding_the_factor_folds_and_the_term_stays(padding: dict[str, Any]) -> None:
    g = GraphMaker(4, 6, 5, 7)
    outcome = rewritten(g.model(g.conv(g.affine("x", 4), 6, 4, 3, 3, 3, **padding)), fold_into_next.RULE)
    assert outcome.operators == ["Add", "Conv"]
    assert "pads with zeros" in outcome.reason
    assert outcome.difference() < CLOSE


def test_a_factor_near_zero_keeps_the_term_behind_it() -> None:
    g = GraphMaker(2, 6, 5, 7)
    y = g.op("Mul", "x", np.array([1e-6, 1], np.float32).reshape(1, 2, 1, 1, 1))
    y = g.op("Add", y, np.array([1, 1], np.float32).reshape(1, 2, 1, 1, 1))
    outcome = rewritten(g.model(g.conv(y, 3, 2, 3, 3, 3, pads=[1] * 6)), fold_into_next.RULE)
    assert outcome.operators == ["Mul", "Add", "Conv"]
    assert "so small" in outcome.reason


def test_a_bias_that_is_computed_is_not_lost() -> None:
    g = GraphMaker(2, 6, 5, 7)
    bias = g.op("ReduceMean", g.op("ReduceMean", "x", np.array([2, 3, 4]), keepdims=0), np.array([0]), keepdims=0)
    y = g.op("Conv", g.affine("x", 2), g.normal(2, 2, 3, 3, 3), bias)
    outcome = rewritten(g.model(g.affine(y, 2)), fold_into_next.RULE, fold_into_previous.RULE)
    assert any("no constants" in refusal.reason for refusal in outcome.refusals)
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize("rule", [swap_affine_pool.RULE, swap_relu_pool.RULE])
def test_a_pooling_that_tells_places_keeps_what_stands_in_front(rule: RewriteRule) -> None:
    g = GraphMaker(2, 6, 6, 6)
    y = g.op("Relu", g.affine("x", 2, positive=True)) if rule is swap_relu_pool.RULE else g.affine("x", 2)
    outcome = rewritten(g.model(g.op("MaxPool", y, outputs=2, kernel_shape=[2, 2, 2])), rule)
    assert outcome.rewrites == 0
    assert any("where the maxima are" in refusal.reason for refusal in outcome.refusals)


def test_a_map_with_two_users_stays() -> None:
    g = GraphMaker(2, 6, 5, 7)
    y = g.op("Mul", "x", g.normal(1, 2, 1, 1, 1))
    outcome = rewritten(g.model(g.conv(y, 3, 2, 3, 3, 3), g.op("Relu", y)), fold_into_next.RULE)
    assert outcome.operators == ["Mul", "Conv", "Relu"]
    assert "more than the convolution" in outcome.reason


def test_a_map_folds_into_matmul_and_its_term_is_added_behind() -> None:
    g = GraphMaker(4)
    outcome = rewritten(g.model(g.op("MatMul", g.affine("x", 4, 2), g.normal(4, 3))), fold_into_dense.RULE)
    assert outcome.operators == ["MatMul", "Add"]
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize("turned", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
def test_a_map_folds_into_gemm(turned: int, bias: bool) -> None:
    g = GraphMaker(4)
    weights = g.normal(3, 4) if turned else g.normal(4, 3)
    y = g.op("Gemm", g.affine("x", 4, 2), weights, *([g.normal(3)] if bias else []), transB=turned)
    outcome = rewritten(g.model(y), fold_into_dense.RULE)
    assert outcome.operators == ["Gemm"]
    assert outcome.difference() < CLOSE


def test_a_gemm_that_scales_is_left_alone() -> None:
    g = GraphMaker(4)
    outcome = rewritten(g.model(g.op("Gemm", g.affine("x", 4, 2), g.normal(4, 3), alpha=2.0)), fold_into_dense.RULE)
    assert outcome.operators == ["Mul", "Add", "Gemm"]
    assert "scales" in outcome.reason


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("MaxPool", {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}),
        ("MaxPool", {"kernel_shape": [3, 3, 3], "strides": [1, 2, 2], "auto_pad": "SAME_LOWER"}),
        ("AveragePool", {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2], "pads": [1, 1, 1, 0, 0, 0]}),
        ("GlobalAveragePool", {}),
        ("GlobalMaxPool", {}),
    ],
)
def test_a_growing_map_moves_behind_pooling(operator: str, attributes: dict[str, Any]) -> None:
    g = GraphMaker(3, 7, 6, 5)
    outcome = rewritten(g.model(g.op(operator, g.affine("x", 3, positive=True), **attributes)), swap_affine_pool.RULE)
    assert outcome.operators == [operator, "Mul", "Add"]
    assert outcome.difference() < CLOSE


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
def test_a_map_moves_behind_a_global_pooling(operator: str, keep: int) -> None:
    g = GraphMaker(3, 7, 6, 5)
    y = g.op(operator, g.affine("x", 3, positive=operator == "ReduceMax"), np.array([-1, 2, 3]), keepdims=keep)
    outcome = rewritten(g.model(y), swap_affine_pool.RULE)
    assert outcome.operators == [operator, "Mul", "Add"]
    assert outcome.difference() < CLOSE


def test_a_falling_map_never_passes_a_maximum() -> None:
    g = GraphMaker(2, 6, 6, 6)
    y = g.op("Mul", "x", np.array([1, -1], np.float32).reshape(1, 2, 1, 1, 1))
    outcome = rewritten(g.model(g.op("MaxPool", y, kernel_shape=[2, 2, 2])), swap_affine_pool.RULE)
    assert outcome.operators == ["Mul", "MaxPool"]
    assert "maximum becomes a minimum" in outcome.reason


def test_a_falling_map_passes_an_average() -> None:
    g = GraphMaker(2, 6, 6, 6)
    outcome = rewritten(g.model(g.op("AveragePool", g.affine("x", 2), kernel_shape=[2, 2, 2])), swap_affine_pool.RULE)
    assert outcome.operators == ["AveragePool", "Mul", "Add"]
    assert outcome.difference() < CLOSE


def test_a_term_never_passes_an_average_that_counts_padding() -> None:
    g = GraphMaker(2, 6, 6, 6)
    y = g.op("Add", "x", g.normal(1, 2, 1, 1, 1))
    pool = g.op("AveragePool", y, kernel_shape=[2, 2, 2], pads=[1] * 6, count_include_pad=1)
    outcome = rewritten(g.model(pool), swap_affine_pool.RULE)
    assert outcome.rewrites == 0
    assert "averages zeros" in outcome.reason


def test_a_reduction_over_channels_keeps_the_map_in_front() -> None:
    g = GraphMaker(3, 4, 4, 4)
    y = g.op("ReduceMean", g.op("Mul", "x", g.normal(1, 3, 1, 1, 1)), np.array([1]), keepdims=0)
    assert rewritten(g.model(y), swap_affine_pool.RULE).rewrites == 0


@pytest.mark.parametrize("operator", ["Relu", "LeakyRelu"])
def test_an_activation_moves_behind_the_pooling(operator: str) -> None:
    g = GraphMaker(3, 7, 6, 5)
    y = g.op("MaxPool", g.op(operator, g.affine("x", 3)), kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    outcome = rewritten(g.model(y), swap_relu_pool.RULE)
    assert outcome.operators == ["Mul", "Add", "MaxPool", operator]
    assert outcome.difference() == 0


def test_an_activation_stays_with_the_convolution_that_does_it_in_passing() -> None:
    g = GraphMaker(1, 7, 6, 5)
    y = g.op("MaxPool", g.op("Relu", g.conv("x", 2, 1, 3, 3, 3)), kernel_shape=[2, 2, 2])
    outcome = rewritten(g.model(y), swap_relu_pool.RULE)
    assert outcome.rewrites == 0
    assert "in passing" in outcome.reason


def test_a_falling_slope_stays_in_front_of_the_pooling() -> None:
    g = GraphMaker(1, 7, 6, 5)
    y = g.op("MaxPool", g.op("LeakyRelu", "x", alpha=-0.5), kernel_shape=[2, 2, 2])
    assert "it falls" in rewritten(g.model(y), swap_relu_pool.RULE).reason


def test_weights_that_layers_share_are_stored_once_after_their_folding() -> None:
    g = GraphMaker(8, 9, 9, 9)
    weights = g.normal(32, 8, 3, 3, 3)
    halves = [g.op("Conv", g.op("MaxPool", "x", kernel_shape=[n] * 3), weights) for n in (1, 2)]
    factor = g.normal(1, 32, 1, 1, 1)
    before = g.model(*(g.op("Mul", half, factor) for half in halves))
    after = optimize_graph(before, "exact", strict=True).proto
    assert "Mul" not in operators(after)
    assert after.ByteSize() < 1.2 * weights.nbytes
