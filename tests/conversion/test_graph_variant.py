"""What becomes of a graph in eight bits: at every level and for every device, in the form that was asked for."""

import numpy as np
import onnx
import pytest
from graphs import GraphMaker, operators
from networks import SHAPE

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.graph_variant import CompileOptions, GraphVariant, make_variant, rewrite_graph
from ct3d_edge.conversion.parity.parity_data import CalibrationData
from ct3d_edge.conversion.parity.tensor_parity import compare_tensors
from ct3d_edge.conversion.passes.pipeline import Target
from ct3d_edge.conversion.precision.tolerances import PRECISION_TOLERANCES

CONTRACT = Contract(shape=SHAPE)
LIMIT = PRECISION_TOLERANCES["int8"].tensor
BUDGET = 60_000
"""Bytes: less than the largest tensor of the tiny network takes."""


def network(padding: int = 0, *, bias: bool = True) -> onnx.ModelProto:
    """A convolution much larger than what goes in and comes out behind its pooling, another one, and a head."""
    g = GraphMaker(*SHAPE, 1)
    x = g.op(
        "Relu", g.conv(g.op("Transpose", "x", perm=[0, 4, 1, 2, 3]), 32, 1, 3, 3, 3, bias=bias, pads=[padding] * 6)
    )
    x = g.affine(g.op("MaxPool", x, kernel_shape=[2, 2, 2], strides=[2, 2, 2]), 32)
    x = g.op("Relu", g.conv(x, 4, 32, 3, 3, 3))
    x = g.op("ReduceMean", x, np.array([2, 3, 4]), keepdims=0)
    return g.model(g.op("Sigmoid", g.op("MatMul", x, g.normal(4, 1))))


def calibration(count: int = 6) -> CalibrationData:
    return CalibrationData([np.random.default_rng(n).random(SHAPE, np.float32) for n in range(count)], "noise")


def in_eight_bits(plan: CompileOptions) -> GraphVariant:
    return make_variant(network(), rewrite_graph(network(), plan), plan, CONTRACT, calibration())


@pytest.mark.parametrize("target", ["cpu", "no-conv3d"])
def test_streaming_within_a_budget_reaches_eight_bits(target: Target) -> None:
    asked = CompileOptions("small", target, BUDGET, strict=True, precision="int8")
    made = in_eight_bits(asked)
    streamed = rewrite_graph(network(), asked).proto
    assert operators(streamed).count("Conv") > 2
    assert operators(made.proto).count("Conv") == operators(streamed).count("Conv")
    assert sum(step["rewrites"] for step in made.provenance["passes"] if step["name"].startswith("depth")) > 0


@pytest.mark.parametrize("padding", [0, 1])
def test_the_tiles_of_a_layer_share_a_range(padding: int) -> None:
    """Calibrated on what is bright at one end of the scan, compared on what is bright at the other."""
    asked = CompileOptions("small", "cpu", BUDGET, strict=True, precision="int8")
    ramp = np.geomspace(0.01, 1, SHAPE[0], dtype=np.float32)[:, None, None]
    dark = CalibrationData([volume * ramp for volume in calibration()], "noise, darker at one end")
    graph = network(padding, bias=False)
    made = make_variant(graph, rewrite_graph(graph, asked), asked, CONTRACT, dark)
    other = next(iter(calibration())) * ramp[::-1]
    parity = compare_tensors(made.fp32, made.proto, [other.reshape(1, *SHAPE, 1)], limit=LIMIT)
    assert parity.passed, parity.describe()


@pytest.mark.parametrize("asked", [CompileOptions("fast", precision="int8"), CompileOptions("none", precision="int8")])
def test_the_passes_on_record_are_those_that_made_the_file(asked: CompileOptions) -> None:
    made = in_eight_bits(asked)
    passes = made.provenance["passes"]
    assert bool(passes) == (asked.level != "none")
    steps = [len(network().graph.node), *(end for step in passes for end in (step["before"], step["after"]))]
    assert all(left == found for left, found in zip(steps[::2], steps[1::2], strict=False)), (
        "each begins where one ends"
    )
    assert steps[-1] == len(made.fp32.graph.node)
