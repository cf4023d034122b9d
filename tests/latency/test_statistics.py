import numpy as np
import pytest

from ct3d_edge.latency import percentile, summary
from ct3d_edge.latency.statistics import ENOUGH


def nearest_rank(samples: list[float], rank: int) -> float:
    """The definition, word for word: the smallest sample that at least ``rank`` % of all do not exceed."""
    return min(
        candidate
        for candidate in samples
        if 100 * sum(sample <= candidate for sample in samples) >= rank * len(samples)
    )


@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 11, 99, 100, 101, 300])
@pytest.mark.parametrize("rank", ENOUGH)
def test_percentiles_follow_the_definition(rank: int, count: int) -> None:
    samples = list(np.random.default_rng(count).exponential(10, count).round(1))
    assert percentile(samples, rank).value == nearest_rank(samples, rank)


@pytest.mark.parametrize("rank", ENOUGH)
def test_a_percentile_is_a_value_that_was_measured(rank: int) -> None:
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
    [(50, 1, 0), (90, 1, 63), (90, 63, 1), (90, 64, 0), (99, 64, 598), (99, 661, 1), (99, 700, 0)],
)
def test_missing_samples_are_counted_down_to_zero(rank: int, count: int, missing: int) -> None:
    found = percentile([1.0] * count, rank)
    assert (found.samples, found.missing) == (count, missing)


def test_the_summary_is_the_three_percentiles() -> None:
    samples = list(range(1, 101))
    assert [(found.rank, found.value) for found in summary(samples)] == [(50, 50), (90, 90), (99, 99)]
