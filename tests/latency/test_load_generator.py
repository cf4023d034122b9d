import numpy as np
import pytest

from ct3d_edge.latency.load_generator import (
    LoadResult,
    best_load,
    choose_tail_rank,
    find_highest_rate,
    poisson_arrivals,
    run_load,
)

from .conftest import FakeClock


def load(rate: float, latencies: list[float], bound: float) -> LoadResult:
    return LoadResult(rate, tuple(latencies), 90, bound)


def test_gaps_are_exponential_with_the_rates_mean() -> None:
    gaps = np.diff(poisson_arrivals(4, 4000, seed=1), prepend=0)
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(0.25, rel=0.05)
    assert gaps.std() == pytest.approx(0.25, rel=0.08), "the deviation of an exponential distribution is its mean"
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 0.05


def test_another_rate_only_stretches_time() -> None:
    slow, fast = (np.asarray(poisson_arrivals(rate, 50, seed=3)) for rate in (1, 4))
    assert slow == pytest.approx(4 * fast)


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_is_above_zero(rate: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        poisson_arrivals(rate, 5)


def test_an_idle_server_answers_in_the_time_of_its_work(clock: FakeClock) -> None:
    assert run_load(lambda _: clock.pass_ms(100), [1, 2, 3], clock=clock) == [100, 100, 100]


def test_waiting_in_the_queue_counts(clock: FakeClock) -> None:
    """Three at once: the third waits for two. A measure that began with each turn would say 100 three times."""
    assert run_load(lambda _: clock.pass_ms(100), [0.5, 0.5, 0.5, 2], clock=clock) == [100, 200, 300, 100]


def test_a_stall_is_seen_by_all_that_arrive_during_it(clock: FakeClock) -> None:
    times = clock.taking(10_000, *[100] * 9)
    latencies = run_load(lambda _: times(), [float(n) for n in range(10)], clock=clock)
    assert latencies == [10_000 - 900 * n for n in range(10)]


def test_latencies_before_a_failure_are_kept(clock: FakeClock) -> None:
    kept: list[float] = []

    def work(number: int) -> None:
        clock.pass_ms(100)
        if number == 2:
            raise MemoryError

    with pytest.raises(MemoryError):
        run_load(work, [1, 2, 3, 4], clock=clock, latencies=kept)
    assert kept == [100, 100]


def test_each_request_has_its_number_and_is_a_step_of_progress(clock: FakeClock) -> None:
    numbers: list[int] = []
    steps: list[tuple[int, int | None, str]] = []
    run_load(numbers.append, [0, 0], clock=clock, progress=lambda *step: steps.append(step))
    assert (numbers, steps) == ([0, 1], [(1, 2, "Requests"), (2, 2, "Requests")])


@pytest.mark.parametrize(("requests", "rank"), [(64, 90), (129, 90), (130, 95), (661, 95), (662, 99), (10_000, 99)])
def test_the_tail_is_the_highest_that_can_be_known(requests: int, rank: float) -> None:
    assert choose_tail_rank(requests) == rank


def test_too_few_requests_have_no_tail() -> None:
    with pytest.raises(ValueError, match="64 requests or more, not 63"):
        choose_tail_rank(63)


def test_the_search_closes_in_on_the_highest_rate(clock: FakeClock) -> None:
    """A made-up server whose tail is 100 ms times 1 / (1 - rate / 10): 200 ms are kept up to a rate of 5."""
    attempts = find_highest_rate(lambda rate: load(rate, [100 / (1 - rate / 10)] * 64, 200.0001), 10, steps=8)
    assert [result.rate for result in attempts[:3]] == [5, 7.5, 6.25]
    found = best_load(attempts)
    assert found is not None
    assert found.rate == 5


def test_a_real_queue_grows_with_the_rate(clock: FakeClock) -> None:
    def attempt(rate: float) -> float:
        latencies = run_load(lambda _: clock.pass_ms(100), poisson_arrivals(rate, 500), clock=clock)
        return load(rate, latencies, 1).tail.value

    tails = [attempt(rate) for rate in (1, 5, 9)]
    assert 100 <= tails[0] < tails[1] < tails[2]


def test_the_search_ends_early_when_it_must_not_proceed() -> None:
    answers = iter([True, False])
    attempts = find_highest_rate(lambda rate: load(rate, [1.0] * 64, 99), 10, proceed=lambda: next(answers))
    assert [result.rate for result in attempts] == [5, 7.5]


def test_a_bound_that_no_rate_keeps_has_no_answer() -> None:
    attempts = find_highest_rate(lambda rate: load(rate, [100.0] * 64, 99), 10)
    assert best_load(attempts) is None
    assert attempts[-1].rate == 10 / 32


def test_too_few_latencies_keep_no_bound() -> None:
    assert not load(1, [1.0] * 63, 100).holds
    assert load(1, [1.0] * 64, 100).holds


def test_a_rate_is_given_up_once_its_tail_is_lost(clock: FakeClock) -> None:
    """p90 of 64 is the 58th: six may lie above the bound, the seventh ends it."""

    def served(bound: float) -> list[float]:
        arrivals = [float(n) for n in range(64)]
        return run_load(lambda _: clock.pass_ms(100), arrivals, clock=clock, max_late=(bound, 6))

    latencies = served(99)
    assert len(latencies) == 7
    assert not load(1, latencies, 99).holds
    assert len(served(100)) == 64
