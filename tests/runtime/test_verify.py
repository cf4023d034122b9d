import numpy as np
import onnx
import pytest
from builders import MakeModel

from ct3d_edge.errors import ModelError
from ct3d_edge.runtime import Runner, golden_volume, load_model_file, verify


def answers(make_model: MakeModel) -> list[float]:
    """What the tiny model really gives for its golden inputs, second class."""
    with Runner(load_model_file(make_model()), "cpu") as runner:
        volumes = np.stack([golden_volume(seed, runner.contract.shape) for seed in (1, 2)])
        return [float(p) for p in runner.infer(volumes)[:, 1]]


def test_holds_when_the_answers_are_the_expected_ones(make_model: MakeModel) -> None:
    first, second = answers(make_model)
    with Runner(load_model_file(make_model(expected=first, tolerance=abs(first - second) + 1e-6)), "cpu") as runner:
        outcome = verify(runner)
    assert outcome.holds
    assert outcome.inputs == 2
    assert outcome.largest_difference == pytest.approx(abs(first - second), abs=1e-6)


def test_does_not_hold_when_one_answer_is_off(make_model: MakeModel) -> None:
    first, second = answers(make_model)
    with Runner(load_model_file(make_model(expected=first, tolerance=abs(first - second) / 2)), "cpu") as runner:
        assert not verify(runner).holds


def test_nan_is_no_expected_answer(make_model: MakeModel) -> None:
    with pytest.raises(ModelError, match="golden test inside the model file"):
        load_model_file(make_model(expected=float("nan")))


def test_a_fixed_batch_of_one_can_be_verified(make_model: MakeModel) -> None:
    path = make_model()
    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    path.write_bytes(proto.SerializeToString())
    with Runner(load_model_file(path), "cpu") as runner:
        assert verify(runner).holds
