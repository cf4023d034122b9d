import numpy as np
import pytest

from ct3d_edge.latency.compare import compare_percentile


def noise(seed: int, count: int = 100, level: float = 300) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).normal(level, 10, count)]


def test_a_slower_series_is_called_slower_and_a_faster_one_faster() -> None:
    slower, faster = (
        compare_percentile(noise(1), noise(2, level=330)),
        compare_percentile(noise(2, level=330), noise(1)),
    )
    assert slower.significant
    assert slower.describe().endswith("% slower")
    assert slower.low is not None
    assert slower.high is not None
    assert slower.low < 1.1 < slower.high
    assert faster.describe().endswith("% faster")


def test_two_series_of_one_kind_show_no_significant_difference() -> None:
    """At 99 % one of a hundred may; three or more of thirty have a chance of 0.3 %."""
    wrong = sum(compare_percentile(noise(n), noise(n + 1000)).significant for n in range(30))
    assert wrong <= 2
    assert compare_percentile(noise(1), noise(1)).describe() == "no significant difference"


def test_the_interval_of_a_tail_holds_the_true_ratio() -> None:
    change = compare_percentile(noise(1, 700), noise(2, 700, level=330), 99)
    assert change.low is not None
    assert change.high is not None
    assert change.low < (330 + 23.3) / (300 + 23.3) < change.high


def test_neighbours_that_resemble_each_other_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    walk = np.repeat(rng.normal(300, 10, 20), 10)
    alike = compare_percentile(walk.tolist(), walk[::-1].tolist())
    shuffled = compare_percentile(rng.permutation(walk).tolist(), rng.permutation(walk).tolist())
    assert alike.low is not None
    assert shuffled.low is not None
    assert alike.low < shuffled.low


def test_pairing_removes_a_drift_that_meets_both() -> None:
    drift = np.linspace(1, 3, 100)
    before = drift * np.asarray(noise(1))
    after = drift * np.asarray(noise(2)) * 1.05
    assert not compare_percentile(before.tolist(), after.tolist()).significant
    assert compare_percentile(before.tolist(), after.tolist(), paired=True).significant
    tail = [compare_percentile(before.tolist(), after.tolist(), 90, paired=paired) for paired in (False, True)]
    widths = [change.high - change.low for change in tail if change.high and change.low]
    assert widths[1] < widths[0]


def test_the_paired_ratio_is_the_median_of_the_ratios() -> None:
    change = compare_percentile([1, 2, 4] * 5, [2, 2, 16] * 5, paired=True)
    assert (change.ratio, change.before, change.after) == (2, 2, 2)


@pytest.mark.parametrize(("rank", "count", "missing"), [(50, 7, 1), (90, 50, 14), (99, 600, 62)])
def test_too_few_samples_are_said_not_judged(rank: float, count: int, missing: int) -> None:
    change = compare_percentile(noise(1, count), noise(2, 700, level=600), rank)
    assert (change.missing, change.low, change.significant) == (missing, None, False)
    assert change.describe() == f"cannot be compared: needs {missing} more runs"


def test_the_same_seed_gives_the_same_interval() -> None:
    assert compare_percentile(noise(1), noise(2)) == compare_percentile(noise(1), noise(2))
    assert compare_percentile(noise(1), noise(2)) != compare_percentile(noise(1), noise(2), seed=1)


def test_paired_series_have_one_length() -> None:
    with pytest.raises(ValueError, match="one length"):
        compare_percentile([1, 2], [1], paired=True)
