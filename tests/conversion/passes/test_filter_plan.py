"""Which convolutions are filtered: those that save much for each byte that their weights grow by."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from graphs import GraphMaker, difference

from ct3d_edge.conversion.passes.lower_conv3d import filter_plan
from ct3d_edge.conversion.passes.lower_conv3d.filter_plan import plan_filtering
from ct3d_edge.conversion.passes.pipeline import optimize_graph
from ct3d_edge.conversion.passes.validate_graph import validate_graph


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of a large network, for a small one."""
    monkeypatch.setattr(filter_plan, "FREE_BYTES", 0)


def pyramid(*widths: int, size: int = 32) -> onnx.ModelProto:
    """Convolutions and poolings, each layer with an eighth of the voxels of the one before it."""
    g = GraphMaker(widths[0], size, size, size)
    x = "x"
    for inputs, outputs in pairwise(widths):
        x = g.op("Relu", g.conv(x, outputs, inputs, 3, 3, 3, pads=[1] * 6))
        x = g.op("MaxPool", x, kernel_shape=[2] * 3, strides=[2] * 3)
    return g.model(x)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("level", ["fast", "small"])
def test_weights_grow_by_a_tenth_at_most(level: str) -> None:
    before = pyramid(16, 16, 32, 64, 256)
    after = optimize_graph(before, level, strict=True).proto  # type: ignore[arg-type]  # literals
    assert after.ByteSize() < 1.1 * before.ByteSize() + 20_000  # nodes and their names
    assert difference(before, after, (16, 32, 32, 32), batch=1) < 1e-5


@pytest.mark.usefixtures("limit")
def test_layers_with_many_voxels_come_first() -> None:
    plan = plan_filtering(validate_graph(pyramid(16, 16, 32, 64, 256)))
    assert plan.unfiltered == {"conv6", "conv9"}
    assert plan.depth_only == {"conv0", "conv3"}


def test_a_small_network_may_grow_more() -> None:
    before = pyramid(32, 64, 64)
    assert plan_filtering(validate_graph(before)).unfiltered == frozenset()
    assert optimize_graph(before, "fast").proto.ByteSize() > 2 * before.ByteSize()


def test_few_voxels_do_not_pay_for_more_weights() -> None:
    few, many = (validate_graph(pyramid(64, 64, size=size)) for size in (4, 16))
    assert plan_filtering(few).unfiltered == {"conv0"}
    assert plan_filtering(many).unfiltered == frozenset()


def test_few_channels_do_not_pay_for_the_transforms() -> None:
    thin, wide = (validate_graph(pyramid(channels, channels)) for channels in (4, 8))
    assert plan_filtering(thin).unfiltered == {"conv0"}
    assert plan_filtering(wide).unfiltered == frozenset()


def factorised(channels: int, first: tuple[int, ...], second: tuple[int, ...]) -> onnx.ModelProto:
    """Kernels within planes and across them, behind a first convolution."""
    g = GraphMaker(1, 16, 16, 16)
    x = g.op("Relu", g.conv("x", channels, 1, 3, 3, 3, pads=[1] * 6))
    for kernel in (first, second):
        x = g.op("Relu", g.conv(x, channels, channels, *kernel, pads=[length // 2 for length in kernel] * 2))
    return g.model(x)


@pytest.mark.parametrize(
    ("channels", "first", "second", "kept"),
    [
        (32, (1, 3, 3), (3, 1, 1), {"conv4"}),
        (8, (1, 3, 3), (3, 1, 1), {"conv4"}),
        (8, (3, 3, 1), (1, 1, 3), {"conv2", "conv4"}),
        (32, (3, 3, 1), (1, 1, 3), set()),
    ],
)
def test_kernels_whose_planes_only_copy_stay_3d(
    channels: int, first: tuple[int, ...], second: tuple[int, ...], kept: set[str]
) -> None:
    before = factorised(channels, first, second)
    assert set(plan_filtering(validate_graph(before)).kept_3d) == kept
    done = optimize_graph(before, "fast", strict=True)
    reasons = {refusal.node: refusal.reason for step in done.steps for refusal in step.refusals}
    assert all("copy more than it saves" in reasons[name] for name in kept)
    assert difference(before, done.proto, (1, 16, 16, 16), batch=2) < 1e-5


@pytest.mark.usefixtures("limit")
def test_layers_that_share_a_kernel_are_planned_together() -> None:
    g = GraphMaker(32, 16, 16, 16)
    kernel = g.normal(32, 32, 3, 3, 3) / np.float32(30)
    weights = g._constant(kernel)
    first = g.op("Conv", "x", weights, pads=[1] * 6)
    plan = plan_filtering(validate_graph(g.model(g.op("Conv", g.op("Relu", first), weights, pads=[1] * 6))))
    assert plan.unfiltered == {"conv0", "conv2"}


@pytest.mark.parametrize(("target", "kept"), [("cpu", True), ("no-conv3d", False)])
@pytest.mark.parametrize("level", ["fast", "small"])
def test_large_kernels_with_few_voxels_stay_3d_on_a_cpu(level: str, target: str, kept: bool) -> None:
    before = pyramid(8, 16, 192, 64, size=16)
    after = optimize_graph(before, level, target, strict=True).proto  # type: ignore[arg-type]  # literals
    kernels = {tensor.name: len(tensor.dims) for tensor in after.graph.initializer}
    axes = [kernels[node.input[1]] for node in after.graph.node if node.op_type == "Conv"]
    assert (5 in axes) == kept
    assert 4 in axes
    assert difference(before, after, (8, 16, 16, 16), batch=1) < 1e-5
