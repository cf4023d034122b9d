"""Graphs with a loop or a choice: what stands outside is rewritten, the body stays as it is."""

import numpy as np
import onnx
import pytest
from graphs import GraphMaker, difference, operators
from onnx import TensorProto, helper, numpy_helper

from ct3d_edge.conversion.passes.pipeline import Level, Target, optimize_graph
from ct3d_edge.errors import ModelError

SHAPE = (4, 9, 8, 7)


def encoder() -> tuple[GraphMaker, str]:
    g = GraphMaker(*SHAPE)
    x = g.op("Relu", g.affine(g.conv("x", 8, 4, 3, 3, 3), 8))
    return g, g.op("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2])


def looped(kernel: int = 1) -> onnx.ModelProto:
    """Three rounds of a convolution of the state, to which the encoder's map, from outside, is added."""
    g, features = encoder()
    weights = g.normal(8, 8, kernel, kernel, kernel) / 8
    proto = g.model(features)
    body = helper.make_graph(
        [
            helper.make_node("Conv", ["state", "body_w"], ["moved"], name="inner_conv", pads=[kernel // 2] * 6),
            helper.make_node("Relu", [features], ["outside"], name="inner_relu"),
            helper.make_node("Add", ["moved", "outside"], ["next"], name="inner_add"),
            helper.make_node("Identity", ["go"], ["on"], name="inner_go"),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
        [numpy_helper.from_array(weights.astype(np.float32), "body_w")],
    )
    proto.graph.initializer.extend(
        [numpy_helper.from_array(np.array(3), "rounds"), numpy_helper.from_array(np.array(True), "begin")]
    )
    proto.graph.node.append(helper.make_node("Loop", ["rounds", "begin", features], ["looped"], name="loop", body=body))
    return finish(proto, "looped")


def chosen() -> onnx.ModelProto:
    """The encoder's map, pooled in one branch and not in the other."""
    g, features = encoder()
    proto = g.model(features)
    branches = [
        helper.make_graph(
            [helper.make_node(operator, [features], [f"out_{operator}"], name=operator)],
            operator,
            [],
            [helper.make_tensor_value_info(f"out_{operator}", TensorProto.FLOAT, None)],
        )
        for operator in ("Relu", "Tanh")
    ]
    proto.graph.initializer.append(numpy_helper.from_array(np.array(False), "condition"))
    node = helper.make_node(
        "If", ["condition"], ["looped"], name="choose", then_branch=branches[0], else_branch=branches[1]
    )
    proto.graph.node.append(node)
    return finish(proto, "looped")


def finish(proto: onnx.ModelProto, last: str) -> onnx.ModelProto:
    """A convolution behind the control flow, whose input size cannot be inferred, and the output."""
    draw = np.random.default_rng(1)
    proto.graph.initializer.append(numpy_helper.from_array(draw.normal(size=(2, 8, 1, 1, 1)).astype("f"), "last_w"))
    proto.graph.node.append(helper.make_node("Conv", [last, "last_w"], ["y"], name="last_conv"))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, None, None, None]))
    onnx.checker.check_model(proto)
    return proto


@pytest.mark.parametrize("make", [looped, chosen])
@pytest.mark.parametrize(("level", "target"), [("exact", "cpu"), ("fast", "cpu"), ("small", "cpu")])
def test_what_stands_before_control_flow_is_rewritten(make: object, level: Level, target: Target) -> None:
    before = make()  # type: ignore[operator]
    done = optimize_graph(before, level, target, 5_000 if level == "small" else None, strict=True)
    kinds = operators(done.proto)
    assert (level == "exact") == ("Reshape" not in kinds), "3D operators became 2D ones"
    assert "Add" not in kinds or level != "exact", "the normalisation is folded"
    (bodied,) = [node for node in done.proto.graph.node if node.op_type in ("Loop", "If")]
    bodies = {node.name: len(attribute.g.node) for node in before.graph.node for attribute in node.attribute}
    assert all(len(attribute.g.node) == bodies[bodied.name] for attribute in bodied.attribute)
    assert difference(before, done.proto, SHAPE) < 1e-5


def test_a_body_with_a_3d_convolution_is_refused_where_there_must_be_none() -> None:
    with pytest.raises(ModelError, match=r"inner_conv \(Conv\) cannot be put without 3D operators"):
        optimize_graph(looped(3), "fast", "no-conv3d")


def test_a_body_is_held_to_the_same_conditions() -> None:
    proto = looped()
    (body,) = [attribute.g for node in proto.graph.node for attribute in node.attribute if attribute.name == "body"]
    body.node[0].domain = "com.example"
    with pytest.raises(ModelError, match=r"inner_conv is Conv of the domain com\.example"):
        optimize_graph(proto)
