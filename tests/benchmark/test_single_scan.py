import pytest

from ct3d_edge.benchmark.single_scan import RunCount
from ct3d_edge.benchmark.workload import PartialResultError, keep_partial_result
from ct3d_edge.latency.measure import Samples, StopCriterion
from ct3d_edge.latency.record import BenchRecord


def samples(count: int) -> Samples:
    return Samples({}, {"infer": (1.0,) * count})


def test_a_plan_that_is_kept_falls_short_of_nothing() -> None:
    assert RunCount(5, StopCriterion()).shortfall(samples(5)) is None
    assert RunCount(5, StopCriterion(precision=0.1)).shortfall(samples(50)) is None


def test_a_plan_that_ran_out_of_time_says_how_far_it_came() -> None:
    assert (
        RunCount(5, StopCriterion(budget_s=2)).shortfall(samples(3))
        == "the time budget of 2 s was spent after 3 of 5 runs"
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError("too large"), "too large"),
        (MemoryError(), "MemoryError()"),
        (KeyboardInterrupt(), "it was interrupted"),
    ],
)
def test_what_breaks_off_leaves_a_record_and_its_cause(error: BaseException, reason: str) -> None:
    def record(incomplete: str) -> BenchRecord:
        return BenchRecord("how long?", {}, {}, {}, samples(3), incomplete=incomplete)

    with pytest.raises(PartialResultError) as caught, keep_partial_result(record):
        raise error
    assert caught.value.record.incomplete == reason
    assert caught.value.__cause__ is error
