import numpy as np
import onnx
from graphs import GraphMaker, answers

from ct3d_edge.conversion.precision.fp16_weights import store_weights_fp16


def dense(weights: np.ndarray) -> onnx.ModelProto:
    g = GraphMaker(weights.shape[0])
    return g.model(g.op("Relu", g.op("MatMul", "x", weights)))


def test_the_file_halves_and_computes_with_rounded_weights() -> None:
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    before = dense(weights)
    after, kept = store_weights_fp16(before)
    onnx.checker.check_model(after, full_check=True)
    assert kept == {}
    assert len(after.SerializeToString()) < 0.55 * len(before.SerializeToString())
    x = np.random.default_rng(1).random((3, 64), np.float32)
    (found,), (right,) = answers(after, x), answers(dense(weights.astype(np.float16).astype(np.float32)), x)
    np.testing.assert_array_equal(found, right)


def test_a_handful_of_weights_is_not_worth_a_cast() -> None:
    after, kept = store_weights_fp16(dense(np.ones((4, 4), np.float32)))
    assert [node.op_type for node in after.graph.node] == ["MatMul", "Relu"]
    assert kept == {}


def test_weights_that_would_be_lost_stay() -> None:
    for scale, reason in ((1e6, "more than float16 holds"), (1e-8, "256 of 256 values are subnormal")):
        after, kept = store_weights_fp16(dense(np.full((16, 16), scale, np.float32)))
        assert reason in kept["constant0"]
        assert after.graph.initializer[0].data_type == onnx.TensorProto.FLOAT
