"""Heads that can be read, and those that cannot, with the reason."""

import numpy as np
import onnx
import pytest
from graphs import GraphMaker, answers

from ct3d_edge.errors import ModelError
from ct3d_edge.gradcam.gradcam import apply_activation
from ct3d_edge.gradcam.graph_trace import find_global_pooling

SHAPE = (3, 4, 5, 6)
SPACE = np.array([2, 3, 4])


def pooled(g: GraphMaker) -> str:
    return g.op("ReduceMean", "x", SPACE, keepdims=0)


def gemm(g: GraphMaker) -> str:
    x = g.op("Gemm", g.op("Flatten", g.op("GlobalAveragePool", "x")), g.normal(7, 3), g.normal(7), transB=1, alpha=0.5)
    return g.op("Sigmoid", g.op("Gemm", g.op("Relu", x), g.normal(7, 1), g.normal(1), beta=2.0))


def matmul(g: GraphMaker) -> str:
    x = g.op("Relu", g.op("Add", g.op("MatMul", pooled(g), g.normal(3, 7)), g.normal(7)))
    x = g.op("Add", g.normal(1, 7), g.op("Mul", x, g.normal(7)))
    return g.op("Softmax", g.op("MatMul", g.op("Identity", x), g.normal(7, 4)), axis=-1)


def kept(g: GraphMaker) -> str:
    x = g.op("Squeeze", g.op("ReduceMean", "x", SPACE - 5, keepdims=1), SPACE)
    return g.op("Cast", g.op("MatMul", x, g.normal(3, 1)), to=onnx.TensorProto.FLOAT)


@pytest.mark.parametrize("make", [gemm, matmul, kept])
def test_a_head_answers_as_its_graph_and_its_gradient_is_that_of_differences(make: object) -> None:
    g = GraphMaker(*SHAPE)
    proto = g.model(make(g))  # type: ignore[operator]
    found = find_global_pooling(proto, proto.graph.output[0].name)
    x = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype(np.float32)
    vector = x[0].reshape(3, -1).mean(axis=1, dtype=np.float64)
    logits = found.head.logits(vector)
    assert found.features == "x"
    assert apply_activation(logits, found.last) == pytest.approx(answers(proto, x)[0][0], abs=1e-5)
    for output in range(len(logits)):
        steps = 1e-6 * np.eye(3)
        slope = [(found.head.logits(vector + s) - found.head.logits(vector - s))[output] / 2e-6 for s in steps]
        assert found.head.gradient(vector, output) == pytest.approx(slope, rel=1e-5, abs=1e-8)


def maximum(g: GraphMaker) -> str:
    return g.op("MatMul", g.op("ReduceMax", "x", SPACE, keepdims=0), g.normal(3, 1))


def tanh(g: GraphMaker) -> str:
    return g.op("MatMul", g.op("Tanh", pooled(g)), g.normal(3, 1))


def branches(g: GraphMaker) -> str:
    x = pooled(g)
    return g.op("Add", g.op("MatMul", x, g.normal(3, 3)), x)


def flat(g: GraphMaker) -> str:
    return g.op("MatMul", g.op("Flatten", "x"), g.normal(360, 1))


def scaled(g: GraphMaker) -> str:
    return g.op("Mul", g.op("MatMul", pooled(g), g.normal(3, 2)), g.normal(1))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (maximum, "node reducemax0 behind its features is ReduceMax"),
        (tanh, "Tanh"),
        (branches, "node add2 puts two branches together"),
        (flat, "it pools nothing"),
        (scaled, "multiplies by one number"),
    ],
)
def test_another_head_is_refused_by_name(make: object, reason: str) -> None:
    g = GraphMaker(*SHAPE)
    proto = g.model(make(g))  # type: ignore[operator]
    with pytest.raises(ModelError, match=f"cannot have a Grad-CAM output: .*{reason}"):
        find_global_pooling(proto, proto.graph.output[0].name)
