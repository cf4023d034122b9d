from dataclasses import replace

import numpy as np
import onnx
import pytest
from builders import MakeModel

from ct3d_edge.errors import ModelError
from ct3d_edge.modelfile.golden_input import make_phantom_volume
from ct3d_edge.modelfile.model_file import load_model_file, parse_model_file
from ct3d_edge.providers.options import parse_options
from ct3d_edge.session.provider_selection import SessionRequest
from ct3d_edge.session.runner import Runner
from ct3d_edge.session.verify import renew_golden_test, run_golden_test


def answers(make_model: MakeModel) -> list[float]:
    """What the tiny model really gives for its golden inputs, second class."""
    with Runner(load_model_file(make_model()), SessionRequest("cpu")) as runner:
        volumes = np.stack([make_phantom_volume(seed, runner.contract.shape) for seed in (1, 2)])
        return [float(p) for p in runner.infer(volumes)[:, 1]]


def test_holds_when_the_answers_are_the_expected_ones(make_model: MakeModel) -> None:
    first, second = answers(make_model)
    with Runner(
        load_model_file(make_model(expected=first, tolerance=abs(first - second) + 1e-6)), SessionRequest("cpu")
    ) as runner:
        outcome = run_golden_test(runner)
    assert outcome.passed
    assert outcome.inputs == 2
    assert outcome.largest_difference == pytest.approx(abs(first - second), abs=1e-6)


def test_does_not_hold_when_one_answer_is_off(make_model: MakeModel) -> None:
    first, second = answers(make_model)
    with Runner(
        load_model_file(make_model(expected=first, tolerance=abs(first - second) / 2)), SessionRequest("cpu")
    ) as runner:
        assert not run_golden_test(runner).passed


def test_nan_is_no_expected_answer(make_model: MakeModel) -> None:
    with pytest.raises(ModelError, match="golden test inside the model file"):
        load_model_file(make_model(expected=float("nan")))


def test_a_file_from_before_is_renewed_with_the_same_graph(make_model: MakeModel) -> None:
    old = load_model_file(make_model())
    data, golden = renew_golden_test(old)
    new = parse_model_file(old.path, data)
    assert new.golden == golden
    assert (new.contract, new.provenance) == (old.contract, old.provenance)
    graphs = [onnx.ModelProto.FromString(file.data).graph.SerializeToString() for file in (old, new)]
    assert graphs[0] == graphs[1]
    with Runner(new, SessionRequest("cpu")) as runner:
        outcome = run_golden_test(runner)
    assert outcome.passed
    assert [name for name, _ in outcome.tensors] == ["features", "pooled", "logit"]
    assert outcome.largest_difference < 1e-6


def test_a_changed_tensor_fails_where_probabilities_stay(make_model: MakeModel) -> None:
    old = load_model_file(make_model())
    _, golden = renew_golden_test(old)
    first = golden.tensors[0]
    values = tuple(tuple(value + 0.01 * first.spread for value in row) for row in first.values)
    damaged = replace(golden, tensors=(replace(first, values=values), *golden.tensors[1:]))
    with Runner(replace(old, golden=damaged), SessionRequest("cpu")) as runner:
        outcome = run_golden_test(runner)
    assert not outcome.passed
    assert outcome.largest_difference <= outcome.tolerance
    assert dict(outcome.tensors)[first.name] == pytest.approx(0.01, rel=0.01)
    assert f"at {first.name}" in outcome.describe("cpu")[1]


@pytest.mark.parametrize("threads", [1, 2])
def test_another_order_of_additions_passes(make_model: MakeModel, threads: int) -> None:
    old = load_model_file(make_model())
    data, _ = renew_golden_test(old)
    options = parse_options("cpu", ("enable_cpu_mem_arena=0",))
    with Runner(parse_model_file(old.path, data), SessionRequest("cpu", threads=threads, options=options)) as runner:
        outcome = run_golden_test(runner)
    assert outcome.passed
    assert max(difference for _, difference in outcome.tensors) < 1e-5


def test_a_tensor_that_is_no_longer_there_is_no_crash(make_model: MakeModel) -> None:
    old = load_model_file(make_model())
    _, golden = renew_golden_test(old)
    renamed = replace(golden, tensors=tuple(replace(sketch, name="gone") for sketch in golden.tensors[:1]))
    with Runner(replace(old, golden=renamed), SessionRequest("cpu")) as runner, pytest.raises(ModelError, match="gone"):
        run_golden_test(runner)


def test_a_fixed_batch_of_one_can_be_verified(make_model: MakeModel) -> None:
    path = make_model()
    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    path.write_bytes(proto.SerializeToString())
    with Runner(load_model_file(path), SessionRequest("cpu")) as runner:
        assert run_golden_test(runner).passed
