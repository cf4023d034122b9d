import pytest

from ct3d_edge.errors import CheckFailedError
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.modelfile.tensor_memory import count_input_bytes
from ct3d_edge.tuning.candidate import Candidate, CandidateResult
from ct3d_edge.tuning.memory_limit import check_memory_feasible, count_weights, drop_over_budget

STANDARD, SMALL, LARGE = Candidate("none", 2), Candidate("small", 1), Candidate("fast", 1)


def test_the_weights_that_nodes_use_are_counted(given: ModelFile) -> None:
    kernel, head, shape, axes = 2 * 27, 2, 5, 3
    assert count_weights(given) == kernel + head + shape + axes


def test_a_budget_below_weights_and_input_is_refused_before_anything_is_made(given: ModelFile) -> None:
    least = 4 * count_weights(given) + count_input_bytes(given.contract.shape)
    check_memory_feasible(given, (), least)
    check_memory_feasible(given, (), None)
    with pytest.raises(CheckFailedError, match="its weights in fp32 and one network input alone take"):
        check_memory_feasible(given, (), least - 1)


def test_fewer_bits_are_taken_into_account(given: ModelFile) -> None:
    least = count_weights(given) + count_input_bytes(given.contract.shape)
    check_memory_feasible(given, ("fp16", "int8"), least)
    with pytest.raises(CheckFailedError, match="its weights in int8"):
        check_memory_feasible(given, ("fp16", "int8"), least - 1)


def test_what_adds_too_much_is_left_out_but_for_what_gains_are_told_against() -> None:
    weighed = [
        CandidateResult(STANDARD, memory=300),
        CandidateResult(SMALL, memory=100),
        CandidateResult(LARGE, memory=300_000_000),
    ]
    found = drop_over_budget(weighed, 200, STANDARD)
    assert [result.dropped is None for result in found] == [True, True, False]
    assert found[2].dropped == "it adds 300 MB, the budget is 200 B"
    assert drop_over_budget(weighed, None, STANDARD) == weighed
