import numpy as np
import pytest
from graphs import GraphMaker

from ct3d_edge.modelfile.signature import POOLED_OUTPUT
from ct3d_edge.modelfile.tensor_sketch import (
    SKETCH_SIZE,
    TensorCollector,
    TensorSketch,
    choose_sensitive_tensors,
    count_sketch,
)


def sketch_of(*tensors: np.ndarray) -> TensorSketch | None:
    collected = TensorCollector()
    for tensor in tensors:
        collected.add(tensor)
    return collected.sketch("x")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(3, 2, shape).astype(np.float32)


def test_sums_are_the_same_on_every_machine() -> None:
    signs = count_sketch(np.ones(16, np.float32))
    assert "".join("-+"[int(sign > 0)] for sign in signs) == "+-+---++--++-+--"
    assert count_sketch(np.arange(16, dtype=np.float32)).tolist() == (signs * np.arange(16)).tolist()
    assert count_sketch(np.arange(40, dtype=np.float32))[[0, 15]].tolist() == [48.0, -46.0]


@pytest.mark.parametrize("shape", [(1, 8, 5, 5, 5), (1, 5), (1, 1), (1, 16), (1, 17)])
def test_a_tensor_does_not_differ_from_its_sketch_and_a_changed_one_does(shape: tuple[int, ...]) -> None:
    tensors = [noise(*shape, seed=seed) for seed in range(3)]
    sketch = sketch_of(*tensors)
    assert sketch is not None
    assert sketch.difference(1, tensors[1]) < 1e-6
    assert sketch.difference(0, tensors[1]) > 0.01
    changed = tensors[2].copy()
    changed[0, 0] = 0
    assert sketch.difference(2, changed) > 0.01


def test_a_change_counts_as_a_part_of_the_spread() -> None:
    tensors = [noise(1, 4000, seed=seed) for seed in range(3)]
    sketch = sketch_of(*tensors)
    assert sketch is not None
    off = np.random.default_rng(9).normal(0, 2e-3, tensors[0].shape).astype(np.float32)
    difference = sketch.difference(0, tensors[0] + off)
    assert 3e-4 < difference < 5e-3, "about a thousandth of the spread, in the worst of 16 sums"


def test_nan_and_another_shape_are_never_alike() -> None:
    tensor = noise(1, 10)
    sketch = sketch_of(tensor)
    assert sketch is not None
    assert not sketch.difference(0, np.full_like(tensor, np.nan)) <= 1
    assert sketch.difference(0, noise(1, 9)) == np.inf


def test_a_constant_or_infinite_tensor_has_no_sketch() -> None:
    assert sketch_of(np.ones((1, 40), np.float32)) is None
    assert sketch_of(np.full((1, 40), np.inf, np.float32)) is None


def test_half_precision_is_summed_without_overflow() -> None:
    large = np.full((1, 4000), 60000, np.float16)
    assert np.isfinite(count_sketch(large)).all()
    assert len(count_sketch(large)) == SKETCH_SIZE


def test_tensors_are_looked_at_through_which_everything_passes_up_to_the_last_activation() -> None:
    g = GraphMaker(2, 6, 6, 6)
    x = g.op("Relu", g.conv(g.op("Neg", "x"), 3, 2, 3, 3, 3))
    branches = g.op("Relu", x), g.op("Neg", x)
    joined = g.op("Add", *branches)
    pooled = g.op("ReduceMean", joined, np.array([2, 3, 4]), keepdims=0)
    beside = g.op("Abs", pooled)
    logit = g.op("MatMul", pooled, g.normal(3, 1))
    answer = g.op("Sigmoid", logit)
    proto = g.model(answer, beside)
    assert choose_sensitive_tensors(proto, answer) == ("conv1_0", x, joined, pooled, logit)
    proto.graph.node[-3].output[0] = POOLED_OUTPUT
    assert POOLED_OUTPUT in choose_sensitive_tensors(proto, answer)


def test_without_an_activation_the_answer_is_looked_at() -> None:
    g = GraphMaker(4)
    logit = g.op("MatMul", "x", g.normal(4, 2))
    assert choose_sensitive_tensors(g.model(logit), logit) == (logit,)
