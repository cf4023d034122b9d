"""How many scans at once: what cores and memory allow, and what is asked for."""

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.inference import predict_many as plans
from ct3d_edge.inference.predict_many import MemoryEstimate, Schedule, make_schedule
from ct3d_edge.system.machine import count_usable_cores

GB = 1_000_000_000
CPU = MemoryEstimate(input_bytes=4_000_000, run_bytes=600_000_000, on_cpu=True)
GPU = MemoryEstimate(input_bytes=4_000_000, run_bytes=600_000_000, on_cpu=False)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A machine with as many cores as the test says."""
    monkeypatch.setattr(plans, "count_usable_cores", lambda: request.param)


@pytest.mark.parametrize(
    ("cores", "needs", "options", "expected"),
    [
        (2, CPU, {"scans": 40, "max_memory": 8 * GB}, Schedule(2, True, 1, 4, 1)),
        (8, CPU, {"scans": 40, "max_memory": 8 * GB}, Schedule(8, True, 1, 16, 1)),
        (8, CPU, {"scans": None, "max_memory": 8 * GB}, Schedule(8, True, 1, 16, 1)),
        (8, CPU, {"scans": 3, "max_memory": 8 * GB}, Schedule(3, True, 2, 6, 1)),
        (8, CPU, {"scans": 40, "max_memory": 2 * GB}, Schedule(3, True, 2, 6, 1)),
        (8, CPU, {"scans": 40, "max_memory": 8 * GB, "workers": 2}, Schedule(2, True, 4, 4, 1)),
        (8, CPU, {"scans": 1, "max_memory": 8 * GB}, Schedule(0, False, 8, 0, 1)),
        (1, CPU, {"scans": 40, "max_memory": 8 * GB}, Schedule(1, False, 1, 2, 1)),
        (4, CPU, {"scans": 40, "max_memory": 700_000_000}, Schedule(3, False, 4, 4, 1)),
        (4, CPU, {"scans": 40, "max_memory": 8 * GB, "batch": 2}, Schedule(3, False, 4, 5, 2)),
        (4, GPU, {"scans": 40, "max_memory": 8 * GB}, Schedule(3, False, 4, 4, 1)),
        (4, GPU, {"scans": 40, "max_memory": 8 * GB, "batch": 8}, Schedule(3, False, 4, 11, 8)),
        (4, GPU, {"scans": 40, "max_memory": 100_000_000, "batch": 8}, Schedule(1, False, 4, 1, 8)),
        (4, GPU, {"scans": 2, "max_memory": 8 * GB}, Schedule(2, False, 4, 3, 1)),
    ],
    indirect=["cores"],
)
def test_what_is_planned(cores: None, needs: MemoryEstimate, options: dict[str, int], expected: Schedule) -> None:
    assert make_schedule(lambda: needs, **options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "found `workers=0`"),
        ({"workers": -3}, "found `workers=-3`"),
        ({"batch": 0}, "found `batch_size=0`"),
        (
            {"batch": 5, "max_memory": 2 * GB},
            r"A batch of 5 scans takes about 3 GB; the memory limit is 2 GB\. Use `batch_size=3` or less",
        ),
        ({"batch": 2, "max_memory": 1}, "`batch_size=1` or less"),
        (
            {"max_memory": 1_000_000},
            r"One scan takes about 620 MB; the memory limit is 1 MB\. Raise `max_memory`",
        ),
        (
            {"max_memory": 2 * GB, "workers": 8},
            r"8 scans at a time take about 4\.96 GB; the memory limit is 2 GB\. Use `workers=3` or less",
        ),
        ({"max_memory": 1_201_000_000, "batch": 2}, r"2 scans at a time take about 1\.22 GB"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_schedule(lambda: CPU, 40, **options)


def test_a_batch_that_no_machine_holds_is_refused_by_the_memory_there_is() -> None:
    with pytest.raises(UsageError, match="A batch of 1,000,000,000 scans"):
        make_schedule(lambda: GPU, 40, batch=GB)


@pytest.mark.parametrize("scans", [None, 1, 40])
def test_a_budget_that_not_even_one_scan_keeps_is_refused(scans: int | None) -> None:
    with pytest.raises(UsageError, match="One scan takes about 620 MB"):
        make_schedule(lambda: CPU, scans, max_memory=619_000_000)
    with pytest.raises(UsageError, match="One scan takes about 28 MB"):
        make_schedule(lambda: GPU, scans, max_memory=27_000_000)
    assert make_schedule(lambda: CPU, scans, max_memory=620_000_000).workers <= 3
    assert make_schedule(lambda: GPU, scans, max_memory=28_000_000).workers <= 1


def test_little_memory_is_no_budget_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "read_available_memory", lambda: 1)
    assert make_schedule(lambda: CPU, 40).workers >= 1


def test_left_alone_it_fits_this_machine() -> None:
    plan = make_schedule(lambda: MemoryEstimate(1000, 1000, True), 1000)
    assert plan.workers * plan.threads == count_usable_cores()


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Schedule(0, False, 1, 0, 1), "one scan after the other, 1 thread"),
        (Schedule(2, True, 3, 4, 1), "2 scans at a time, 3 threads each"),
        (Schedule(2, False, 3, 4, 8), "2 reading ahead, batches of 8"),
    ],
)
def test_a_plan_says_what_it_is(plan: Schedule, words: str) -> None:
    assert plan.describe() == words


def test_one_scan_needs_no_estimate() -> None:
    def estimate() -> MemoryEstimate:
        raise AssertionError("the graph is analysed for nothing")

    assert make_schedule(estimate, 1) == Schedule(0, False, count_usable_cores(), 0, 1)
