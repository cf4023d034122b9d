import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.conversion.parity.parity_data import ParityDataset
from ct3d_edge.conversion.precision.tolerances import PRECISION_TOLERANCES
from ct3d_edge.errors import CheckFailedError, UsageError, WorkerError
from ct3d_edge.modelfile.model_file import ModelFile
from ct3d_edge.modelfile.tensor_memory import count_input_bytes
from ct3d_edge.tuning.candidate import Candidate, CandidateResult
from ct3d_edge.tuning.measure import (
    TuningBench,
    check_candidate_parity,
    time_interleaved,
)
from ct3d_edge.tuning.memory import (
    TuningMemoryJob,
    check_memory_feasible,
    count_weights,
    drop_over_budget,
    measure_memory,
)

AS_GIVEN, FAST = Candidate("none", 1), Candidate("fast", 1)
STANDARD, SMALL = Candidate("none", 2), Candidate("small", 1)


def test_a_form_that_answers_otherwise_is_dropped_with_the_difference(
    given: ModelFile, wrong: ModelFile, volumes: list[NDArray[np.float32]]
) -> None:
    bench = TuningBench(given, {AS_GIVEN.form: given, FAST.form: wrong}, "cpu")
    (found,) = check_candidate_parity(bench, [CandidateResult(FAST)], ParityDataset(volumes, "eight"))
    assert found.dropped is not None
    assert found.dropped.startswith("the parity check fails: probability differs by ")
    assert "(limit 1e-05)" in found.dropped


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own(given: ModelFile, volumes: list[NDArray[np.float32]]) -> None:
    bench = TuningBench(given, {AS_GIVEN.form: given}, "cpu")
    (weighed,) = measure_memory(bench, [AS_GIVEN])
    assert weighed.memory is not None
    assert 0 < weighed.memory < 1e9
    (found,) = check_candidate_parity(bench, [weighed], ParityDataset(volumes, "eight"))
    assert found == replace(weighed, difference=0.0)


def kill_fast(job: TuningMemoryJob) -> int:
    """Work that the system ends where it is the fast form's, as one that is out of memory does."""
    if job.candidate == FAST:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1000


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that ends a process at once")
def test_a_candidate_whose_process_is_killed_is_dropped_and_the_others_go_on(
    given: ModelFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.tuning.memory._memory_worker", kill_fast)
    bench = TuningBench(given, {AS_GIVEN.form: given, FAST.form: given}, "cpu")
    killed, other = measure_memory(bench, [FAST, AS_GIVEN])
    assert killed == CandidateResult(
        FAST, "its process was killed, probably because the machine's memory does not hold it"
    )
    assert other == CandidateResult(AS_GIVEN, memory=1000)
    with pytest.raises(WorkerError, match="A worker process ended early"):
        measure_memory(bench, [FAST])


def test_what_was_dropped_before_is_not_proven(given: ModelFile, volumes: list[NDArray[np.float32]]) -> None:
    dropped = CandidateResult(FAST, "it adds 9 MB, the budget is 1 MB", memory=9_000_000)
    assert check_candidate_parity(TuningBench(given, {}, "cpu"), [dropped], ParityDataset(volumes, "eight")) == [
        dropped
    ]


def test_each_precision_has_its_own_limit_unless_one_is_given(given: ModelFile) -> None:
    bench = TuningBench(given, {}, "cpu")
    assert (bench.tolerance_for("fp32"), bench.tolerance_for("int8")) == (
        1e-5,
        PRECISION_TOLERANCES["int8"].probability,
    )
    assert TuningBench(given, {}, "cpu", 1e-3).tolerance_for("int8") == 1e-3


def test_the_given_files_own_precision_is_no_reason_for_a_difference(given: ModelFile) -> None:
    eight_bits = replace(given, provenance={"precision": {"arithmetic": "int8"}})
    assert TuningBench(eight_bits, {}, "cpu").tolerance_for("int8") == 1e-5


def test_a_network_that_tells_nothing_apart_proves_nothing(
    given: ModelFile, volumes: list[NDArray[np.float32]]
) -> None:
    with pytest.raises(CheckFailedError, match="shows nothing"):
        check_candidate_parity(
            TuningBench(given, {AS_GIVEN.form: given}, "cpu"),
            [CandidateResult(AS_GIVEN)],
            ParityDataset(volumes[:1] * 8, "one"),
        )


def test_fewer_than_eight_volumes_are_no_proof(given: ModelFile, volumes: list[NDArray[np.float32]]) -> None:
    with pytest.raises(UsageError, match="at least 8 volumes"):
        check_candidate_parity(
            TuningBench(given, {AS_GIVEN.form: given}, "cpu"),
            [CandidateResult(AS_GIVEN)],
            ParityDataset(volumes[:7], "seven"),
        )


def test_only_what_holds_is_timed_and_all_of_it_in_every_round(
    given: ModelFile, wrong: ModelFile, volumes: list[NDArray[np.float32]]
) -> None:
    results = [
        CandidateResult(AS_GIVEN),
        CandidateResult(FAST, "the proof fails"),
        CandidateResult(Candidate("none", 2)),
    ]
    rounds: list[None] = []
    bench = TuningBench(given, {AS_GIVEN.form: given, FAST.form: wrong}, "cpu")
    timed = time_interleaved(bench, results, volumes[0], 3, on_round=lambda: rounds.append(None))
    assert [len(result.samples) for result in timed] == [3, 0, 3]
    assert len(rounds) == 4, "one that warms up"
    assert min(timed[0].samples) > 0


def test_where_nothing_holds_nothing_is_timed(given: ModelFile, volumes: list[NDArray[np.float32]]) -> None:
    (timed,) = time_interleaved(TuningBench(given, {}, "cpu"), [CandidateResult(FAST, "no")], volumes[0], 3)
    assert timed.samples == ()


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
        CandidateResult(FAST, memory=300_000_000),
    ]
    found = drop_over_budget(weighed, 200, STANDARD)
    assert [result.dropped is None for result in found] == [True, True, False]
    assert found[2].dropped == "it adds 300 MB, the budget is 200 B"
    assert drop_over_budget(weighed, None, STANDARD) == weighed
