from itertools import combinations
from math import comb

import numpy as np
import pytest

from ct3d_edge.latency.statistics import count_warmup_runs


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
