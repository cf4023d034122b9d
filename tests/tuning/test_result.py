from pathlib import Path

import pytest

from ct3d_edge.cli.tune import speedup
from ct3d_edge.errors import CheckFailedError
from ct3d_edge.tuning.cache import tuned_model_path, tuning_result_path
from ct3d_edge.tuning.candidate import Candidate, CandidateResult
from ct3d_edge.tuning.result import check_memory_budget, choose_fastest


def result(threads: int, milliseconds: float, memory: int, dropped: str | None = None) -> CandidateResult:
    return CandidateResult(Candidate("none", threads), dropped, 0.0, memory, (milliseconds,) * 3)


RESULTS = [result(1, 5, 100_000_000), result(2, 3, 200_000_000), result(4, 1, 50_000_000, "the proof fails")]


def test_the_fastest_that_holds_is_chosen() -> None:
    assert choose_fastest(RESULTS, None) == 1


def test_the_fastest_within_the_budget_is_chosen() -> None:
    assert choose_fastest(RESULTS, 150_000_000) == 0


def test_a_budget_that_none_meets_says_what_the_smallest_needs() -> None:
    with pytest.raises(CheckFailedError, match=r"within 60 MB: the smallest adds 100 MB\. Nothing was written"):
        choose_fastest(RESULTS, 60_000_000)


def test_where_none_holds_nothing_is_chosen() -> None:
    with pytest.raises(CheckFailedError, match="None of 1 candidates passed the parity check"):
        choose_fastest(RESULTS[2:], None)


def test_the_files_lie_beside_the_model() -> None:
    model = Path("folder/model.v2.onnx")
    assert tuning_result_path(model) == Path("folder/model.v2.tuned.json")
    assert tuned_model_path(model) == Path("folder/model.v2.tuned.onnx")


def test_what_is_dropped_does_not_count_as_room() -> None:
    with pytest.raises(CheckFailedError, match="the smallest adds 100 MB"):
        check_memory_budget(RESULTS, 60_000_000)
    check_memory_budget(RESULTS, 100_000_000)


def test_the_ratio_of_the_rounds_is_told_beside_another_one_of_the_medians() -> None:
    plain = CandidateResult(Candidate("none", 2), samples=(10.0, 20.0, 30.0))
    told = speedup(CandidateResult(Candidate("fast", 2), samples=(5.0, 25.0, 30.0)), plain)
    assert told.startswith("1.00 times as fast as the given file with default options, compared round by round")
    assert "(the medians above give 0.80" in told
    assert speedup(CandidateResult(Candidate("fast", 2), samples=(5.0, 10.0, 15.0)), plain).startswith(
        "2.00 times as fast as the given file with default options; too few"
    )
