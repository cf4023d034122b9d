import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.errors import GateError, UsageError
from ct3d_edge.runtime import ModelFile
from ct3d_edge.tuning.candidate import Candidate, Result
from ct3d_edge.tuning.measure import Bench, judge, time_in_turn

AS_GIVEN, FAST = Candidate("none", 1), Candidate("fast", 1)


def test_a_form_that_answers_otherwise_is_dropped_with_the_difference(
    given: ModelFile, wrong: ModelFile, volumes: list[NDArray[np.float32]]
) -> None:
    bench = Bench(given, {"none": given, "fast": wrong}, "cpu")
    (found,) = judge(bench, [FAST], lambda: volumes, material="eight", limit=1e-5)
    assert found.dropped is not None
    assert found.dropped.startswith("the proof fails: probability differs by ")
    assert found.memory is None


@pytest.mark.slow
def test_one_that_holds_has_its_memory_from_a_process_of_its_own(
    given: ModelFile, volumes: list[NDArray[np.float32]]
) -> None:
    (found,) = judge(Bench(given, {"none": given}, "cpu"), [AS_GIVEN], lambda: volumes, material="eight", limit=1e-5)
    assert (found.dropped, found.difference) == (None, 0)
    assert found.memory is not None
    assert 0 < found.memory < 1e9


def test_a_network_that_tells_nothing_apart_proves_nothing(
    given: ModelFile, volumes: list[NDArray[np.float32]]
) -> None:
    with pytest.raises(GateError, match="proves nothing"):
        judge(Bench(given, {"none": given}, "cpu"), [AS_GIVEN], lambda: volumes[:1] * 8, material="one", limit=1e-5)


def test_fewer_than_eight_volumes_are_no_proof(given: ModelFile, volumes: list[NDArray[np.float32]]) -> None:
    with pytest.raises(UsageError, match="at least 8 volumes"):
        judge(Bench(given, {"none": given}, "cpu"), [AS_GIVEN], lambda: volumes[:7], material="seven", limit=1e-5)


def test_only_what_holds_is_timed_and_all_of_it_in_every_round(
    given: ModelFile, wrong: ModelFile, volumes: list[NDArray[np.float32]]
) -> None:
    results = [Result(AS_GIVEN), Result(FAST, "the proof fails"), Result(Candidate("none", 2))]
    rounds: list[None] = []
    bench = Bench(given, {"none": given, "fast": wrong}, "cpu")
    timed = time_in_turn(bench, results, volumes[0], 3, on_round=lambda: rounds.append(None))
    assert [len(result.samples) for result in timed] == [3, 0, 3]
    assert len(rounds) == 4, "one that warms up"
    assert min(timed[0].samples) > 0


def test_where_nothing_holds_nothing_is_timed(given: ModelFile, volumes: list[NDArray[np.float32]]) -> None:
    (timed,) = time_in_turn(Bench(given, {}, "cpu"), [Result(FAST, "no")], volumes[0], 3)
    assert timed.samples == ()
