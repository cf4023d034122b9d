from itertools import combinations
from math import comb, inf

import numpy as np
import pytest
from products import each_value

from ct3d_edge.latency.measure import count_warmup_runs
from ct3d_edge.latency.statistics import (
    CONFIDENCE_LEVEL,
    PERCENTILE_RANKS,
    confidence_positions,
    min_samples,
    percentile,
    standard_percentiles,
)


def nearest_rank(samples: list[float], rank: float) -> float:
    """The definition, word for word: the smallest sample that at least ``rank`` % of all do not exceed."""
    return min(
        candidate
        for candidate in samples
        if 100 * sum(sample <= candidate for sample in samples) >= rank * len(samples)
    )


@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 11, 99, 100, 101, 300])
def test_percentiles_follow_the_definition(count: int) -> None:
    samples = list(np.random.default_rng(count).exponential(10, count).round(1))
    for rank in PERCENTILE_RANKS:
        assert percentile(samples, rank).value == nearest_rank(samples, rank)


@pytest.mark.parametrize("rank", PERCENTILE_RANKS)
def test_a_percentile_is_a_value_that_was_measured(rank: float) -> None:
    assert percentile([1.0, 1000.0], rank).value in (1, 1000)


def test_the_order_of_the_samples_does_not_matter_and_is_kept() -> None:
    samples = [3.0, 1.0, 2.0]
    assert percentile(samples, 50).value == 2
    assert samples == [3, 1, 2]


def test_without_samples_there_is_no_percentile() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        percentile([], 50)


@pytest.mark.parametrize(
    ("rank", "count", "missing"),
    [(50, 1, 0), (90, 1, 63), (90, 63, 1), (90, 64, 0), (95, 129, 1), (95, 130, 0), (99, 64, 598), (99, 700, 0)],
)
def test_missing_samples_are_counted_down_to_zero(rank: float, count: int, missing: int) -> None:
    found = percentile([1.0] * count, rank)
    assert (found.samples, found.missing) == (count, missing)


def binomial(successes: int, trials: int, chance: float) -> float:
    """The textbook formula."""
    return comb(trials, successes) * chance**successes * (1 - chance) ** (trials - successes)


@pytest.mark.parametrize(("rank", "samples"), [(90, 64), (95, 130), (99, 662), (99.9, 6636)])
def test_enough_is_where_two_samples_lie_beyond_almost_surely(rank: float, samples: int) -> None:
    def chance_of_less_than_two(count: int) -> float:
        return sum(binomial(beyond, count, 1 - rank / 100) for beyond in (0, 1))

    assert min_samples(rank) == samples
    assert chance_of_less_than_two(samples) <= 0.01 < chance_of_less_than_two(samples - 1)


@pytest.mark.parametrize(("count", "rank"), each_value([1, 7, 8, 20, 63, 64, 200], [50, 90, 99]))
def test_each_end_of_an_interval_misses_with_half_a_percent_at_most(rank: float, count: int) -> None:
    low, high = confidence_positions(count, rank)

    def chance(below: range) -> float:
        return sum(binomial(k, count, rank / 100) for k in below)

    tail = (1 - CONFIDENCE_LEVEL) / 2
    lowest_misses, highest_misses = chance(range(1)), chance(range(count, count + 1))
    assert (low is None) == (lowest_misses > tail)
    assert (high is None) == (highest_misses > tail)
    if low:
        assert chance(range(low)) <= tail < chance(range(low + 1))
    if high:
        assert chance(range(high, count + 1)) <= tail < chance(range(high - 1, count + 1))


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """A skewed distribution, as latencies have; 2000 trials may stray by three standard deviations, 0.7 %."""
    rng, truth, hits = np.random.default_rng(5), -np.log(0.1), 0
    for _ in range(2000):
        found = percentile(rng.exponential(1, 100).tolist(), 90)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= truth <= found.high
    assert hits / 2000 >= CONFIDENCE_LEVEL - 0.007


@pytest.mark.parametrize("rank", PERCENTILE_RANKS)
def test_what_has_enough_samples_has_both_ends(rank: float) -> None:
    assert None not in confidence_positions(max(8, min_samples(rank)), rank)


def test_precision_is_half_the_interval_over_the_value() -> None:
    samples = [float(n) for n in range(1, 202)]
    found = percentile(samples, 50)
    assert (found.low, found.value, found.high) == (82, 101, 120)
    assert found.precision == 19 / 101
    assert percentile([1.0] * 7, 50).precision == inf
    assert percentile([0.0] * 50, 50).precision == inf


def test_the_summary_is_the_five_percentiles() -> None:
    samples = list(range(1, 1001))
    expected = [("p50", 500), ("p90", 900), ("p95", 950), ("p99", 990), ("p99.9", 999)]
    assert [(found.name, found.value) for found in standard_percentiles(samples)] == expected


def test_a_constant_series_is_steady_from_the_start() -> None:
    assert count_warmup_runs([3.0] * 10, block=5) == 0


@pytest.mark.parametrize("count", [0, 1, 9])
def test_fewer_runs_than_two_blocks_show_no_level(count: int) -> None:
    assert count_warmup_runs([3.0] * count, block=5) is None


@pytest.mark.parametrize("slow", [1, 4, 17])
def test_slow_runs_at_the_start_are_counted(slow: int) -> None:
    noise = np.random.default_rng(slow).normal(0, 0.1, 60)
    series = np.where(np.arange(60) < slow, 50 - np.arange(60), 10) + noise
    found = count_warmup_runs(series.tolist(), block=5)
    assert found is not None
    assert slow <= found <= slow + 15


def test_a_series_that_only_falls_never_is() -> None:
    assert count_warmup_runs([1 / n for n in range(1, 100)], block=5) is None


def test_noise_of_one_level_is_recognised_in_five_cases_of_seven() -> None:
    """Exactly: of the 252 ways to deal ten ranks to two blocks, 180 leave each median within the other's range."""
    hits = sum(
        count_warmup_runs([*first, *sorted(set(range(10)) - set(first))], block=5) is not None
        for first in combinations(range(10), 5)
    )
    assert (hits, comb(10, 5)) == (180, 252)
