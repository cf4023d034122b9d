from pathlib import Path

import pytest

from ct3d_edge.cli.tune_print import gain
from ct3d_edge.errors import GateError
from ct3d_edge.tuning.candidate import Candidate, Result
from ct3d_edge.tuning.result import choice_path, choose, require_room, tuned_model_path


def result(threads: int, milliseconds: float, memory: int, dropped: str | None = None) -> Result:
    return Result(Candidate("none", threads), dropped, 0.0, memory, (milliseconds,) * 3)


RESULTS = [result(1, 5, 100_000_000), result(2, 3, 200_000_000), result(4, 1, 50_000_000, "the proof fails")]


def test_the_fastest_that_holds_is_chosen() -> None:
    assert choose(RESULTS, None) == 1


def test_the_fastest_within_the_budget_is_chosen() -> None:
    assert choose(RESULTS, 150_000_000) == 0


def test_a_budget_that_none_meets_says_what_the_smallest_needs() -> None:
    with pytest.raises(GateError, match=r"within 60 MB: the smallest adds 100 MB\. Nothing was written"):
        choose(RESULTS, 60_000_000)


def test_where_none_holds_nothing_is_chosen() -> None:
    with pytest.raises(GateError, match="None of 1 candidates holds the proof"):
        choose(RESULTS[2:], None)


def test_the_files_lie_beside_the_model() -> None:
    model = Path("folder/model.v2.onnx")
    assert choice_path(model) == Path("folder/model.v2.tuned.json")
    assert tuned_model_path(model) == Path("folder/model.v2.tuned.onnx")


def test_what_is_dropped_does_not_count_as_room() -> None:
    with pytest.raises(GateError, match="the smallest adds 100 MB"):
        require_room(RESULTS, 60_000_000)
    require_room(RESULTS, 100_000_000)


def test_the_ratio_of_the_rounds_is_told_beside_another_one_of_the_medians() -> None:
    plain = Result(Candidate("none", 2), samples=(10.0, 20.0, 30.0))
    told = gain(Result(Candidate("fast", 2), samples=(5.0, 25.0, 30.0)), plain)
    assert told.startswith("1.00 times as fast as the given file with default options, compared round by round")
    assert "(the medians above give 0.80" in told
    assert gain(Result(Candidate("fast", 2), samples=(5.0, 10.0, 15.0)), plain).startswith(
        "2.00 times as fast as the given file with default options; too few"
    )
