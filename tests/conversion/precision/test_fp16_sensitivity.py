import numpy as np
import onnx
import pytest
from graphs import GraphMaker

from ct3d_edge.conversion.precision.fp16_sensitivity import ValueRange, find_fp16_sensitive_nodes, measure_ranges


def reasons(model: onnx.ModelProto, *batches: np.ndarray) -> dict[str, str]:
    return find_fp16_sensitive_nodes(model, measure_ranges(model, batches))


def number(value: float) -> np.ndarray:
    return np.array([value], np.float32)


def ones(*shape: int) -> np.ndarray:
    return np.ones((1, *shape), np.float32)


def test_only_the_answer_of_a_tame_network_is_kept() -> None:
    g = GraphMaker(4)
    found = reasons(g.model(g.op("Sigmoid", g.op("Relu", "x"))), ones(4))
    assert found == {"sigmoid1_0": "it computes the prediction"}


@pytest.mark.parametrize(("peak", "risk"), [(1e4, False), (2e4, True), (1e6, True)])
def test_a_range_is_kept_away_from_the_largest_number(peak: float, risk: bool) -> None:
    g = GraphMaker(4)
    model = g.model(g.op("Relu", g.op("Mul", g.op("Mul", "x", number(100)), number(peak / 100))))
    found = reasons(model, ones(4) * 0.5, ones(4))
    assert ("mul1_0" in found) == risk
    assert not risk or f"it reaches {peak:.1e}" in found["mul1_0"]


def test_who_reads_what_float16_cannot_hold_is_kept_too() -> None:
    g = GraphMaker(4)
    model = g.model(g.op("Relu", g.op("Mul", g.op("Mul", "x", number(3e4)), number(1e-3))))
    assert reasons(model, ones(4))["mul1_0"] == "it is given values up to 3.0e+04; 1.6e+04 is safe"


def test_the_range_is_that_of_all_volumes() -> None:
    g = GraphMaker(4)
    model = g.model(g.op("Relu", g.op("Mul", "x", number(3e4))))
    assert "mul0_0" not in reasons(model, ones(4) * 0.1)
    assert "mul0_0" in reasons(model, ones(4) * 0.1, ones(4))


def test_subnormal_values_and_weights_are_kept() -> None:
    g = GraphMaker(4)
    small = g.op("Mul", "x", number(1e-3))
    model = g.model(g.op("Relu", g.op("Add", g.op("Mul", small, number(1e-3)), g.normal(4) * np.float32(1e-7))))
    found = reasons(model, ones(4))
    assert "it reaches 1.0e-06, and 4 of 4 are subnormal" in found["mul1_0"]
    assert "4 of 4 values of its constant" in found["add2_0"]


def test_weights_that_float16_does_not_hold_are_kept() -> None:
    g = GraphMaker(4)
    model = g.model(g.op("Relu", g.op("Mul", g.op("Mul", "x", number(1e-4)), number(1e5))))
    assert "reaches 1.0e+05, more than float16 holds" in reasons(model, ones(4))["mul1_0"]


def test_deep_means_and_products_are_kept() -> None:
    g = GraphMaker(1, 64, 33)
    mean = g.model(g.op("Relu", g.op("ReduceMean", "x", np.array([2, 3]), keepdims=0)))
    assert reasons(mean, ones(1, 64, 33))["reducemean0_0"] == "it adds up 2112 values; 2048 are safe"
    h = GraphMaker(20_000)
    product = h.model(h.op("Relu", h.op("MatMul", "x", h.normal(20_000, 1) * np.float32(1e-2))))
    assert reasons(product, ones(20_000))["matmul0_0"] == "it adds up 20000 products; 16384 are safe"


def test_partial_sums_count_even_where_they_cancel() -> None:
    g = GraphMaker(2)
    weights = np.array([[40_000], [-40_000]], np.float32)
    found = reasons(g.model(g.op("Relu", g.op("MatMul", "x", weights))), ones(2))
    assert "its partial sums may reach 8.0e+04" in found["matmul0_0"]


def test_the_depth_of_a_convolution_is_its_kernel_times_its_channels() -> None:
    g = GraphMaker(700, 3, 3, 3)
    weights = np.full((2, 700, 3, 3, 3), 1e-3, np.float32)
    found = reasons(g.model(g.op("Relu", g.op("Conv", "x", weights))), ones(700, 3, 3, 3))
    assert found["conv0_0"] == "it adds up 18900 products; 16384 are safe"


def test_an_operator_without_float16_is_kept() -> None:
    g = GraphMaker(1, 4, 4)
    scales = np.array([1, 1, 2, 2], np.float32)
    model = g.model(g.op("Relu", g.op("Resize", "x", np.zeros(0, np.float32), scales)))
    assert reasons(model, ones(1, 4, 4))["resize0_0"] == "Resize does not take float16"


def test_ranges_of_an_obvious_array() -> None:
    found = ValueRange()
    found.update(np.array([0, 1e-6, -2e-6, 3], np.float32))
    found.update(np.array([-7, 0], np.float32))
    assert (found.largest, found.values, found.subnormal_count, found.mostly_subnormal) == (7.0, 4, 2, False)
