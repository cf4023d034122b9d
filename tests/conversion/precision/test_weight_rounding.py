import numpy as np
import onnx
import pytest
from graphs import GraphMaker

from ct3d_edge.conversion.precision.int8 import quantize, round_weights, snap_to_grid


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


def in_steps(values: np.ndarray, like: np.ndarray, top: int) -> np.ndarray:
    """Weights in steps of their output channel, one channel after the other."""
    steps = [np.abs(channel).max().astype(np.float64) / top for channel in like]
    return np.stack([channel / step for channel, step in zip(values, steps, strict=True)])


@pytest.mark.parametrize("top", [64, 127])
@pytest.mark.parametrize("shape", [(5, 4, 3, 3), (4, 3, 3, 3, 3)])
def test_each_kernel_keeps_its_sum_within_half_a_step(shape: tuple[int, ...], top: int) -> None:
    before = weights(*shape)
    after = in_steps(round_weights(before, top), before, top)
    exact = in_steps(before, before, top)
    np.testing.assert_allclose(after, np.rint(after), atol=1e-4)
    assert np.abs(after - exact).max() <= 1 + 1e-4, "the integer below or above"
    kernels = tuple(range(2, before.ndim))
    assert np.abs((after - exact).sum(axis=kernels)).max() <= 0.5 + 1e-3
    assert np.abs((np.rint(exact) - exact).sum(axis=kernels)).max() > 1, "one by one they would not"


def test_no_more_weights_are_moved_than_the_sum_asks_for() -> None:
    before = weights(6, 5, 3, 3)
    exact = in_steps(before, before, 64)
    moved = np.rint(in_steps(round_weights(before, 64), before, 64)) != np.rint(exact)
    asked = np.abs(np.rint((exact - np.rint(exact)).sum(axis=(2, 3))))
    np.testing.assert_array_equal(moved.sum(axis=(2, 3)), asked)


def test_the_largest_weight_of_a_channel_stays() -> None:
    before = weights(5, 4, 3, 3)
    largest = np.abs(before).reshape(5, -1).argmax(axis=1)
    after = round_weights(before, 127).reshape(5, -1)
    np.testing.assert_array_equal(after[range(5), largest], before.reshape(5, -1)[range(5), largest])


def test_channels_of_nothing_stay_nothing() -> None:
    assert not round_weights(np.zeros((2, 3, 3, 3), np.float32), 64).any()


@pytest.mark.parametrize(("top", "seven_bits"), [(64, True), (127, False)])
def test_onnx_runtime_finds_the_same_integers(top: int, seven_bits: bool) -> None:
    g = GraphMaker(4, 8, 8)
    proto = snap_to_grid(g.model(g.op("Relu", g.conv("x", 6, 4, 3, 3))), top)
    batches = [np.random.default_rng(n).random((1, 4, 8, 8), np.float32) for n in range(4)]
    made = quantize(proto, batches, exclude=(), symmetric=False, seven_bits=seven_bits)
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    (integers,) = [value for value in constants.values() if value.dtype == np.int8 and value.ndim == 4]
    given = onnx.numpy_helper.to_array(proto.graph.initializer[0])
    np.testing.assert_array_equal(integers, np.rint(in_steps(given, given, top)))


def test_a_kernel_that_is_computed_is_left_alone() -> None:
    g = GraphMaker(4, 8, 8)
    kernel = g.op("Reshape", weights(6 * 4 * 9), np.array([6, 4, 3, 3]))
    proto = g.model(g.op("Conv", "x", kernel))
    assert snap_to_grid(proto, 64) == proto
