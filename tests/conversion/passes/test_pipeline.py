from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import GraphMaker, difference, operators
from onnx import TensorProto, helper

from ct3d_edge.conversion.passes import pipeline
from ct3d_edge.conversion.passes.pipeline import optimize_graph
from ct3d_edge.conversion.passes.rule import RewriteRule, apply_rules
from ct3d_edge.errors import ModelError, UsageError

SHAPE = (1, 13, 12, 11)


def small_network() -> onnx.ModelProto:
    """Of the tutorial's kind: two blocks of convolution, pooling, normalisation; global average; dense."""
    g = GraphMaker(*SHAPE)
    x = "x"
    for inputs, outputs in ((1, 16), (16, 16)):
        x = g.op("Relu", g.conv(x, outputs, inputs, 3, 3, 3))
        x = g.op("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])
        x = g.affine(x, outputs)
    x = g.op("ReduceMean", g.op("Transpose", x, perm=[0, 2, 3, 4, 1]), np.array([1, 2, 3]), keepdims=0)
    x = g.op("Add", g.op("MatMul", x, g.normal(16, 3)), g.normal(3))
    return g.model(g.op("Softmax", x))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("level", "target"),
    [("exact", "cpu"), ("fast", "cpu"), ("exact", "no-conv3d"), ("fast", "tensorrt"), ("small", "no-conv3d")],
)
def test_levels_answer_alike_for_any_batch(level: pipeline.Level, target: pipeline.Target, batch: int) -> None:
    before = small_network()
    done = optimize_graph(before, level, target, strict=True)
    onnx.checker.check_model(done.proto, full_check=True)
    assert difference(before, done.proto, SHAPE, batch) < 1e-5
    assert "Mul" not in operators(done.proto), "normalisations are folded"
    assert done.proto.graph.input == before.graph.input
    assert [value.name for value in done.proto.graph.output] == [value.name for value in before.graph.output]


def test_the_input_is_not_changed_and_the_same_input_gives_the_same_bytes() -> None:
    proto = small_network()
    before = proto.SerializeToString(deterministic=True)
    first, second = (optimize_graph(proto).proto.SerializeToString(deterministic=True) for _ in range(2))
    assert proto.SerializeToString(deterministic=True) == before
    assert first == second


def test_a_file_rewritten_before_can_be_rewritten_again() -> None:
    before = small_network()
    once = optimize_graph(before, "exact", strict=True).proto
    twice = optimize_graph(once, "fast", strict=True).proto
    again = optimize_graph(twice, "fast", strict=True)
    assert difference(before, twice, SHAPE) < 1e-5
    assert again.steps[-1].after == len(twice.graph.node), "nothing is left to do"
    assert difference(before, again.proto, SHAPE) < 1e-5


def test_none_changes_nothing() -> None:
    proto = small_network()
    done = optimize_graph(proto, "none")
    assert (done.proto, done.steps) == (proto, ())


@pytest.mark.parametrize("target", ["openvino", "cuda", "tensorrt"])
def test_devices_that_know_3d_keep_it(target: pipeline.Target) -> None:
    done = optimize_graph(small_network(), "fast", target).proto
    kernels = [a for node in done.graph.node if node.op_type == "Conv" for a in node.attribute if a.name == "pads"]
    assert kernels
    assert all(len(a.ints) == 6 for a in kernels)


@pytest.mark.parametrize("level", ["exact", "fast"])
def test_no_conv3d_is_a_promise(level: pipeline.Level) -> None:
    g = GraphMaker(2, 4, 5, 6)
    strange = g.op("ConvTranspose", g.conv("x", 4, 2, 3, 3, 3), g.normal(4, 2, 2, 2, 2), auto_pad="SAME_UPPER")
    with pytest.raises(ModelError, match=r"Node convtranspose1 \(ConvTranspose\)"):
        optimize_graph(g.model(strange), level, "no-conv3d")
    assert "ConvTranspose" in operators(optimize_graph(g.model(strange), level, "cpu").proto)
    with pytest.raises(UsageError, match="needs rewriting"):
        optimize_graph(small_network(), "none", "no-conv3d")


def test_a_budget_is_for_small_alone() -> None:
    with pytest.raises(UsageError, match="`max_memory=` is for"):
        optimize_graph(small_network(), "fast", "cpu", 10**6)


def test_steps_tell_node_counts_and_reasons() -> None:
    done = optimize_graph(small_network(), "fast", strict=True)
    assert done.steps[0].before == len(small_network().graph.node)
    assert done.steps[-1].after == len(done.proto.graph.node)
    assert all(a.after == b.before for a, b in zip(done.steps, done.steps[1:], strict=False))
    behind = next(step for step in done.steps if step.name == "behind pooling")
    assert behind.to_dict()["refused"] == {
        "relu1": "conv0 does it in passing",
        "relu6": "conv5 does it in passing",
    }


def _breaks(node: ir.Node) -> None:
    if node.graph is not None:
        node.graph.inputs[0].name = "half way"
    raise ZeroDivisionError("in the middle")


@pytest.fixture
def broken_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = RewriteRule("broken", frozenset({"Conv"}), _breaks)
    passes = (replace(pipeline.EXACT_PASSES[0], rules=(broken,)), *pipeline.EXACT_PASSES[1:])
    monkeypatch.setattr(pipeline, "EXACT_PASSES", passes)


@pytest.mark.usefixtures("broken_pass")
def test_a_pass_that_throws_is_undone_and_reported() -> None:
    before = small_network()
    done = optimize_graph(before, "exact")
    assert done.steps[0].failure == "ZeroDivisionError: in the middle"
    assert "failure" in done.steps[0].to_dict()
    assert sum(step.rewrites for step in done.steps) > 0, "the others still run"
    assert difference(before, done.proto, SHAPE) < 1e-5


@pytest.mark.usefixtures("broken_pass")
def test_strict_stops_at_a_pass_that_throws() -> None:
    with pytest.raises(ZeroDivisionError):
        optimize_graph(small_network(), "exact", strict=True)


def test_rules_that_undo_each_other_are_found_out() -> None:
    endless = RewriteRule("endless", frozenset({"Conv"}), lambda _: lambda: None)
    with pytest.raises(RuntimeError, match="endless"):
        apply_rules([endless], ir.from_proto(small_network()))


def test_operators_that_no_rule_knows_stay() -> None:
    g = GraphMaker(2, 6, 6, 6)
    y = g.op("Mish", g.conv("x", 8, 2, 3, 3, 3))
    y = g.op("InstanceNormalization", y, g.normal(8), g.normal(8))
    before = g.model(g.op("Cos", g.conv(y, 8, 8, 3, 3, 3)))
    done = optimize_graph(before, "fast", strict=True)
    assert {"Mish", "InstanceNormalization", "Cos"} <= set(operators(done.proto))
    assert difference(before, done.proto, (2, 6, 6, 6)) < 1e-5


def with_domain() -> onnx.ModelProto:
    proto = small_network()
    proto.graph.node[3].domain = "com.example"
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    return proto


def with_unknown_operator() -> onnx.ModelProto:
    proto = small_network()
    proto.graph.node[1].op_type = "StatefulPartitionedCall"
    return proto


def with_doubles() -> onnx.ModelProto:
    g = GraphMaker(2, 4, 4, 4)
    y = g.op("Cast", "x", to=TensorProto.DOUBLE)
    return g.model(g.op("Conv", y, g.normal(2, 2, 3, 3, 3).astype(np.float64)))


def with_external_weights() -> onnx.ModelProto:
    proto = small_network()
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return proto


def without_sizes() -> onnx.ModelProto:
    proto = small_network()
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "depth"
    return proto


def emptied() -> onnx.ModelProto:
    proto = small_network()
    del proto.graph.node[:]
    return proto


def of_opset_17() -> onnx.ModelProto:
    proto = small_network()
    proto.opset_import[0].version = 17
    return proto


def with_window_too_long() -> onnx.ModelProto:
    g = GraphMaker(2, 4, 4, 4)
    y = g.op("Conv", "x", g.normal(2, 2, 3, 3, 3))
    return g.model(g.op("MaxPool", y, kernel_shape=[3, 3, 3]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (with_window_too_long, "Node maxpool1 is given .* less than its window"),
        (with_unknown_operator, "Node relu1 is StatefulPartitionedCall, which is no operator"),
        (with_domain, r"Node mul3 is Mul of the domain com\.example"),
        (with_doubles, "Node cast0 computes in float64"),
        (with_external_weights, "tensor constant0 lies in another file"),
        (without_sizes, r"Node conv0 \(Conv\) has an input of unknown size"),
        (emptied, "graph is empty"),
        (of_opset_17, "opset 17"),
    ],
)
def test_what_cannot_be_rewritten_is_refused_by_name(make: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        optimize_graph(make())  # type: ignore[operator]
