import numpy as np
import onnx
import pytest
from graphs import GraphMaker, answers, difference, operators

from ct3d_edge.conversion.precision.fp16 import convert_to_fp16, simulate_fp16
from ct3d_edge.conversion.precision.fp16_sensitivity import find_fp16_sensitive_nodes, measure_ranges

SHAPE = (1, 9, 8, 7)


def network() -> onnx.ModelProto:
    g = GraphMaker(*SHAPE)
    x = g.op("Relu", g.conv("x", 4, 1, 3, 3, 3))
    x = g.op("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    x = g.op("ReduceMean", x, np.array([2, 3, 4]), keepdims=0)
    return g.model(g.op("Sigmoid", g.op("MatMul", x, g.normal(4, 1))))


def loud_network(peak: float) -> onnx.ModelProto:
    """A tensor of about ``peak`` in the middle, brought down again behind it."""
    g = GraphMaker(8)
    x = g.op("Mul", "x", np.array([peak], np.float32))
    return g.model(g.op("Sigmoid", g.op("Mul", x, np.array([1 / peak], np.float32))))


def batch(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).random((1, *shape), np.float32)


def test_types_are_written_down_and_input_and_output_stay_float32() -> None:
    before = network()
    half = convert_to_fp16(before, {"sigmoid5_0"})
    onnx.checker.check_model(half, full_check=True)
    assert half.graph.input == before.graph.input
    assert [v.type.tensor_type.elem_type for v in half.graph.output] == [onnx.TensorProto.FLOAT]
    stored = {t.data_type for t in half.graph.initializer}
    assert stored == {onnx.TensorProto.FLOAT16, onnx.TensorProto.INT64}
    assert operators(half).count("Cast") == 2, "one in, one in front of the node that is kept"
    assert 0 < difference(before, half, SHAPE) < 1e-2


def test_a_tensor_that_several_kept_nodes_read_is_cast_once() -> None:
    g = GraphMaker(8)
    x = g.op("Relu", "x")
    model = g.model(g.op("Add", g.op("Sin", x), g.op("Cos", x)))
    half = convert_to_fp16(model, {"sin1_0", "cos2_0", "add3_0"})
    assert operators(half) == ["Cast", "Relu", "Cast", "Sin", "Cos", "Add"]


def test_the_rehearsal_is_float16_arithmetic() -> None:
    g = GraphMaker(64)
    slope, shift = g.normal(64), g.normal(64)
    model = g.model(g.op("Identity", g.op("Add", g.op("Mul", "x", slope), shift)))
    x = batch(64)
    (found,) = answers(simulate_fp16(model, {"identity2_0"}), x)
    obvious = x.astype(np.float16) * slope.astype(np.float16) + shift.astype(np.float16)
    np.testing.assert_array_equal(found, obvious.astype(np.float32))


def test_only_the_rehearsal_shows_what_the_cpu_provider_hides() -> None:
    model = loud_network(1e6)
    x = batch(8)
    answer = {"sigmoid2_0"}
    (right,), (file,), (rehearsed,) = (
        answers(m, x) for m in (model, convert_to_fp16(model, answer), simulate_fp16(model, answer))
    )
    assert not np.abs(rehearsed - right).max() < 1e-2, "1e6 is infinite in float16"
    with_care = find_fp16_sensitive_nodes(model, measure_ranges(model, [x]))
    (safe,) = answers(simulate_fp16(model, with_care), x)
    assert np.abs(safe - right).max() < 1e-3
    assert file.shape == right.shape


@pytest.mark.parametrize("keep", [set(), {"conv0_0"}, {"conv0_0", "maxpool2_0", "matmul4_0"}])
def test_whatever_is_kept_the_rehearsal_answers_as_the_file(keep: set[str]) -> None:
    model = network()
    keep = {*keep, "sigmoid5_0"}
    x = batch(*SHAPE)
    (file,), (rehearsed,) = answers(convert_to_fp16(model, keep), x), answers(simulate_fp16(model, keep), x)
    assert np.abs(file - rehearsed).max() < 2e-3


def test_the_graph_is_not_changed() -> None:
    model = network()
    before = model.SerializeToString(deterministic=True)
    convert_to_fp16(model, {"sigmoid5_0"})
    simulate_fp16(model, {"sigmoid5_0"})
    assert model.SerializeToString(deterministic=True) == before
