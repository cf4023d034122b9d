from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import GraphMaker, answers

from ct3d_edge.conversion.passes.pipeline import Target
from ct3d_edge.conversion.precision.int8 import convert_to_int8
from ct3d_edge.conversion.precision.qdq_layout import arrange_qdq

SHAPE = (1, 12, 10)


def batches(count: int = 6) -> list[np.ndarray]:
    return [np.random.default_rng(n).random((1, *SHAPE), np.float32) for n in range(count)]


def network() -> onnx.ModelProto:
    """Slices that become channels, a convolution with ReLU and pooling, and one without ReLU."""
    g = GraphMaker(*SHAPE)
    taps = [g.op("Slice", "x", np.array([n]), np.array([n + 10]), np.array([2])) for n in range(3)]
    x = g.op("Relu", g.conv(g.op("Concat", *taps, axis=1), 8, 3, 3, 3))
    x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.op("ReduceMean", g.conv(x, 4, 8, 3, 3), np.array([2, 3]), keepdims=0)
    return g.model(g.op("Sigmoid", g.op("MatMul", x, g.normal(4, 1))))


def converted(target: Target) -> ir.Model:
    return ir.from_proto(convert_to_int8(network(), iter(batches()), target)[0])


@pytest.mark.parametrize("target", ["openvino", "tensorrt"])
def test_a_convolution_is_rounded_once_behind_its_relu(target: Target) -> None:
    relus = [node for node in converted(target).graph if node.op_type == "Relu"]
    assert [relu.inputs[0].producer().op_type for relu in relus] == ["Conv"]  # type: ignore[union-attr]
    assert {use.node.op_type for use in relus[0].outputs[0].uses()} == {"QuantizeLinear"}


@pytest.mark.parametrize(("target", "kind"), [("openvino", ir.DataType.UINT8), ("tensorrt", ir.DataType.INT8)])
def test_what_is_never_negative_is_unsigned_where_that_is_supported(target: Target, kind: ir.DataType) -> None:
    graph = converted(target).graph
    kinds = {node.inputs[0].producer().op_type: node.inputs[2].dtype for node in graph if is_behind_operator(node)}  # type: ignore[union-attr]
    assert kinds == {"Relu": kind, "MaxPool": kind, "Concat": ir.DataType.INT8, "Conv": ir.DataType.INT8}


def is_behind_operator(node: ir.Node) -> bool:
    return node.op_type == "QuantizeLinear" and node.inputs[0] is not None and node.inputs[0].producer() is not None


def test_slices_of_one_tensor_are_quantised_once(caplog: pytest.LogCaptureFixture) -> None:
    graph = converted("openvino").graph
    of_input = [node for node in graph if node.op_type == "QuantizeLinear" and node.inputs[0] is graph.inputs[0]]
    assert len(of_input) == 1
    assert {use.node.op_type for use in of_input[0].outputs[0].uses()} == {"Slice"}
    assert Counter(node.op_type for node in graph)["Slice"] == 3
    assert not caplog.records, "a value without a type is reported"


def test_the_arranged_graph_is_valid_and_nearer_to_float32() -> None:
    """Of the signed integers before, each ReLU's output had half as many steps, and was rounded twice."""
    before = network()
    arranged, _ = convert_to_int8(before, iter(batches()), "openvino")
    onnx.checker.check_model(arranged, full_check=True)
    signed, _ = convert_to_int8(before, iter(batches()), "tensorrt")
    inputs = batches(40)

    def error(model: onnx.ModelProto) -> float:
        return float(np.sqrt(np.mean([(answers(before, x)[0] - answers(model, x)[0]) ** 2 for x in inputs])))

    assert 0 < error(arranged) < error(signed)


def test_scales_that_a_tensor_with_negative_values_uses_too_stay_signed() -> None:
    g = GraphMaker(4, 6)
    step = np.array(0.1, np.float32), np.array(0, np.int8)
    quantized = [g.op("QuantizeLinear", name, *step) for name in (g.op("Relu", "x"), "x")]
    proto = g.model(g.op("Add", *[g.op("DequantizeLinear", name, *step) for name in quantized]))
    pairs = [node for node in proto.graph.node if node.op_type.endswith("Linear")]
    for node in pairs[1:]:
        node.input[1:] = pairs[0].input[1:]
    model = ir.from_proto(proto)
    arrange_qdq(model, unsigned=True)
    x = np.random.default_rng(0).normal(size=(1, 4, 6)).astype(np.float32)
    np.testing.assert_array_equal(answers(ir.to_proto(model), x)[0], answers(proto, x)[0])


def test_a_zero_point_that_serves_weights_too_stays_signed() -> None:
    g = GraphMaker(4)
    step = np.array(0.1, np.float32), np.array(0, np.int8)
    weights = g.op("DequantizeLinear", np.array([-3, 2, 1, 0], np.int8), *step)
    relu = g.op("DequantizeLinear", g.op("QuantizeLinear", g.op("Relu", "x"), *step), *step)
    proto = g.model(g.op("Mul", relu, weights))
    pairs = [node for node in proto.graph.node if node.op_type.endswith("Linear")]
    for node in pairs[1:]:
        node.input[1:] = pairs[0].input[1:]
    model = ir.from_proto(proto)
    arrange_qdq(model, unsigned=True)
    x = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
    np.testing.assert_array_equal(answers(ir.to_proto(model), x)[0], answers(proto, x)[0])
