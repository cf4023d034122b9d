from collections.abc import Iterator

import numpy as np
import onnx
import pytest
from graphs import GraphMaker, answers
from numpy.typing import NDArray

from ct3d_edge.conversion.passes.pipeline import Target, optimize_graph
from ct3d_edge.conversion.precision.int8 import convert_to_int8
from ct3d_edge.errors import ModelError

SHAPE = (4, 12, 10)


def network() -> onnx.ModelProto:
    g = GraphMaker(*SHAPE)
    x = g.op("Relu", g.conv("x", 8, 4, 3, 3))
    x = g.op("Relu", g.conv(g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]), 8, 8, 3, 3))
    x = g.op("ReduceMean", x, np.array([2, 3]), keepdims=0)
    return g.model(g.op("Sigmoid", g.op("MatMul", x, g.normal(8, 1))))


def batches(count: int = 6) -> list[np.ndarray]:
    return [np.random.default_rng(n).random((1, *SHAPE), np.float32) for n in range(count)]


def test_convolutions_become_integers_and_the_head_stays_float32() -> None:
    before = network()
    after, kept = convert_to_int8(before, iter(batches()), "cpu")
    onnx.checker.check_model(after, full_check=True)
    assert set(kept) == {"reducemean5", "matmul6", "sigmoid7"}
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in after.graph.initializer}
    weights = [t for t in constants.values() if t.dtype == np.int8 and t.ndim == 4]
    assert [w.shape for w in weights] == [(8, 4, 3, 3), (8, 8, 3, 3)]
    scales = [t for name, t in constants.items() if "scale" in name and t.shape == (8,)]
    assert len(scales) >= 2, "one scale a channel"
    worst = max(float(np.abs(answers(before, x)[0] - answers(after, x)[0]).max()) for x in batches(12))
    assert 0 < worst < 0.02


@pytest.mark.parametrize(
    ("target", "unsigned", "symmetric"),
    [("cpu", True, False), ("no-conv3d", True, False), ("openvino", True, True), ("tensorrt", False, True)],
)
def test_runtimes_that_need_it_get_symmetric_integers(target: Target, unsigned: bool, symmetric: bool) -> None:
    after, _ = convert_to_int8(network(), iter(batches()), target)
    kinds = {t.data_type for t in after.graph.initializer}
    assert (onnx.TensorProto.UINT8 in kinds) == unsigned
    if symmetric:
        zeros = [onnx.numpy_helper.to_array(t) for t in after.graph.initializer if "zero_point" in t.name]
        assert zeros
        assert not any(zero.any() for zero in zeros)


def test_nothing_to_quantise_is_said() -> None:
    g = GraphMaker(4)
    with pytest.raises(ModelError, match="no convolution in this network"):
        convert_to_int8(g.model(g.op("Sigmoid", "x")), iter([]), "cpu")


def test_a_graph_of_minimal_filtering_is_refused() -> None:
    g = GraphMaker(64, 16, 16, 16)
    filtered = optimize_graph(g.model(g.op("Relu", g.conv("x", 64, 64, 3, 3, 3))), "fast", strict=True).proto
    with pytest.raises(ModelError, match="minimal filtering \\(Winograd\\) of conv0"):
        convert_to_int8(filtered, iter([]), "cpu")


def test_calibration_is_streamed() -> None:
    """Each volume can be thrown away before the next one is asked for."""
    import gc
    import weakref

    alive: list[weakref.ref[np.ndarray]] = []

    def one_at_a_time() -> Iterator[NDArray[np.float32]]:
        for number in range(6):
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1
            batch = np.random.default_rng(number).random((1, *SHAPE), np.float32)
            alive.append(weakref.ref(batch))
            yield batch
            del batch

    convert_to_int8(network(), one_at_a_time(), "cpu")
    assert len(alive) == 6
