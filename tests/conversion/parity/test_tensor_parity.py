import numpy as np
import onnx
import pytest
from graphs import GraphMaker

from ct3d_edge.conversion.parity.tensor_parity import compare_tensors


def chain(factor: float) -> onnx.ModelProto:
    g = GraphMaker(4)
    x = g.op("Relu", "x")
    x = g.op("Mul", x, np.array([factor], np.float32))
    return g.model(g.op("Tanh", g.op("Add", x, np.array([0.5], np.float32))))


def batches() -> list[np.ndarray]:
    return [np.full((1, 4), level, np.float32) for level in (0.25, 1.0)]


def test_a_graph_does_not_differ_from_itself() -> None:
    level = compare_tensors(chain(2), chain(2), batches(), limit=0)
    assert level.passed
    assert (level.compared, level.tensors, level.volumes, level.worst.largest) == (4, 4, 2, 0.0)


def test_the_first_tensor_beyond_the_limit_is_named_and_the_smallest_limit_told() -> None:
    level = compare_tensors(chain(2), chain(2.2), batches(), limit=1e-3)
    assert level.first is not None
    assert level.first.node == "Mul mul1"
    assert level.first.largest == pytest.approx(0.1), "of the largest magnitude over both volumes, two"
    assert level.worst.largest >= level.first.largest
    assert compare_tensors(chain(2), chain(2.2), batches(), limit=level.worst.largest).passed


def unlikely(bias: float, last: str) -> onnx.ModelProto:
    """Logits of about -9 and what ``last`` makes of them: a sigmoid, probabilities of about 1e-4."""
    g = GraphMaker(4)
    return g.model(g.op(last, g.op("Add", "x", np.array([bias], np.float32))))


def test_probabilities_have_the_limit_of_decisions_alone() -> None:
    graphs = unlikely(-9, "Sigmoid"), unlikely(-8.8, "Sigmoid")
    level = compare_tensors(*graphs, batches(), limit=0.1)
    assert level.passed, "logits differ by 2 %; probabilities by 20 % of themselves, but by 1e-4 at most"
    assert (level.compared, level.worst.node) == (1, "Add add0")
    assert not compare_tensors(*graphs, batches(), limit=0.01).passed
    assert compare_tensors(unlikely(-9, "Neg"), unlikely(-8.8, "Neg"), batches(), limit=0.1).compared == 2


def test_a_nan_is_beyond_every_limit() -> None:
    level = compare_tensors(chain(2), chain(np.nan), batches(), limit=1e9)
    assert level.first is not None
    assert level.first.node == "Mul mul1"


def test_tensors_of_another_shape_are_not_the_same_tensor() -> None:
    other = GraphMaker(4)
    x = other.op("Relu", "x")
    x = other.op("Mul", other.op("Reshape", x, np.array([-1, 2, 2])), np.array([9], np.float32))
    level = compare_tensors(chain(2), other.model(x), batches(), limit=0)
    assert level.compared == 1
