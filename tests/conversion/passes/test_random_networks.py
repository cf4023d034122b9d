"""Networks nobody would draw: windows, orders and sizes at random, every level against the graph as it was."""

import random
from typing import Any

import numpy as np
import onnx
import pytest
from graphs import GraphMaker, difference

from ct3d_edge.conversion.passes.pipeline import optimize_graph

CLOSE = 1e-5
KERNELS = [(3, 3, 3), (1, 1, 1), (3, 3, 1), (5, 3, 3), (2, 2, 2), (1, 3, 3), (3, 1, 1)]
POOLS = [((2, 2, 2), [2, 2, 2]), ((3, 3, 3), [2, 2, 2]), ((2, 2, 1), [2, 2, 1]), ((3, 2, 2), [1, 1, 1])]


class Draw:
    """Draws one network; keeps track of channels and sizes."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311  # not a secret
        self.channels = self.dice.choice([1, 1, 2, 4, 8])
        self.size = [self.dice.randint(9, 15) for _ in range(3)]
        self.graph = GraphMaker(self.channels, *self.size, seed=seed)
        self.shape = (self.channels, *self.size)

    def network(self) -> onnx.ModelProto:
        x = "x"
        for _ in range(self.dice.randint(1, 3)):
            x = self.pooling(self.between(self.convolution(x)))
        return self.graph.model(self.head(x))

    def convolution(self, x: str) -> str:
        kernel = self.dice.choice(KERNELS)
        stride, dilation = self.dice.choice([(1, 1), (1, 1), (2, 1), (1, 2)])
        reach = [(k - 1) * dilation + 1 for k in kernel]
        padded = self.dice.random() < 0.5 or any(n < r for n, r in zip(self.size, reach, strict=True))
        pads = [(r - 1 + extra) // 2 * padded for extra in (0, 1) for r in reach]
        self.size = [(n + pads[axis] + pads[axis + 3] - reach[axis]) // stride + 1 for axis, n in enumerate(self.size)]
        groups = self.dice.choice([1, 1, self.channels])
        inputs, self.channels = self.channels // groups, groups * self.dice.choice([1, 2, 8])
        window: dict[str, Any] = {"strides": [stride] * 3, "dilations": [dilation] * 3, "pads": pads, "group": groups}
        return self.graph.conv(x, self.channels, inputs, *kernel, bias=self.dice.random() < 0.7, **window)

    def between(self, x: str) -> str:
        order = self.dice.choice(["normalise, activate", "activate, normalise", "activate", "nothing", "residual"])
        for step in order.split(", "):
            if step == "normalise":
                x = self.graph.affine(x, self.channels, positive=self.dice.random() < 0.3)
            if step == "activate":
                x = self.graph.op("Relu", x)
        return self.graph.op("Add", x, self.graph.op("Sigmoid", x)) if order == "residual" else x

    def pooling(self, x: str) -> str:
        kernel, strides = self.dice.choice(POOLS)
        if self.dice.random() < 0.2 or any(n < k for n, k in zip(self.size, kernel, strict=True)):
            return x
        self.size = [(n - k) // s + 1 for n, k, s in zip(self.size, kernel, strides, strict=True)]
        operator = self.dice.choice(["MaxPool", "MaxPool", "AveragePool"])
        return self.graph.op(operator, x, kernel_shape=list(kernel), strides=strides)

    def head(self, x: str) -> str:
        kind = self.dice.choice(["mean", "maximum", "tf2onnx", "flat"])
        g = self.graph
        if kind == "flat":
            return g.op("Flatten", g.op("Transpose", x, perm=[0, 2, 3, 4, 1]))
        if kind == "tf2onnx":
            pooled = g.op("ReduceMean", g.op("Transpose", x, perm=[0, 2, 3, 4, 1]), np.array([1, 2, 3]), keepdims=0)
        else:
            pooled = g.op("ReduceMean" if kind == "mean" else "ReduceMax", x, np.array([2, 3, 4]), keepdims=0)
        return g.op("Softmax", g.op("Add", g.op("MatMul", pooled, g.normal(self.channels, 3)), g.normal(3)))


def require_equal(seed: int) -> None:
    draw = Draw(seed)
    before = draw.network()
    onnx.checker.check_model(before, full_check=True)
    small = 3_000 if seed % 2 else 20_000
    for level, target, budget in (
        ("exact", "cpu", None),
        ("fast", "cpu", None),
        ("fast", "openvino", None),
        ("exact", "no-conv3d", None),
        ("small", "no-conv3d", small),
    ):
        after = optimize_graph(before, level, target, budget, strict=True).proto  # type: ignore[arg-type]  # literals
        onnx.checker.check_model(after, full_check=True)
        assert difference(before, after, draw.shape, batch=1 + seed % 3) < CLOSE, (seed, level, target)


@pytest.mark.parametrize("seed", range(20))
def test_random_networks(seed: int) -> None:
    require_equal(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 220, 20))
def test_more_random_networks(seed: int) -> None:
    for one in range(seed, seed + 20):
        require_equal(one)
