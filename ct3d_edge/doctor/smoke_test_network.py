"""A tiny three-dimensional network, and what it answers by NumPy: does a provider truly run such a thing?"""

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

TEST_INPUT_SHAPE = (1, 1, 10, 8, 6)
"""Of its input: batch, channel, and three axes of different lengths, so that none can stand for another."""

TOLERANCE = 1e-2
"""Largest difference that passes. Answers are about 1; TF32, where a library insists on it, may cost some 1e-3."""


def make_test_input() -> NDArray[np.float32]:
    """``SHAPE`` float32."""
    return np.random.default_rng(1).normal(0, 1, TEST_INPUT_SHAPE).astype(np.float32)


def build_test_network() -> bytes:
    """An ONNX file: three-dimensional convolution, ReLU, max pooling, mean over each of four channels."""
    kernel, bias = _weights()
    nodes = [
        helper.make_node("Conv", ["volume", "kernel", "bias"], ["convolved"], name="conv"),
        helper.make_node("Relu", ["convolved"], ["positive"], name="relu"),
        helper.make_node("MaxPool", ["positive"], ["pooled"], name="pool", kernel_shape=[2] * 3, strides=[2] * 3),
        helper.make_node("GlobalAveragePool", ["pooled"], ["mean"], name="mean"),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("volume", TensorProto.FLOAT, TEST_INPUT_SHAPE)],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, (1, len(kernel), 1, 1, 1))],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def expected_output(volume: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the network answers, ``(channel,)``, by its definition."""
    kernel, bias = _weights()
    windows = sliding_window_view(volume[0, 0].astype(np.float64), kernel.shape[2:])
    convolved = np.einsum("xyzijk,cijk->cxyz", windows, kernel[:, 0]) + bias[:, None, None, None]
    pools = sliding_window_view(np.maximum(convolved, 0), (2, 2, 2), axis=(1, 2, 3))[:, ::2, ::2, ::2]
    return np.asarray(pools.max(axis=(4, 5, 6)).mean(axis=(1, 2, 3)))


def _weights() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Kernel ``(4, 1, 3, 3, 3)`` and bias ``(4,)``."""
    draw = np.random.default_rng(0)
    return draw.normal(0, 0.3, (4, 1, 3, 3, 3)).astype(np.float32), draw.normal(0, 0.3, 4).astype(np.float32)
