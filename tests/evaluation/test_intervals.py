import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from ct3d_edge.evaluation.metrics import bootstrap, proportion


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_that_of_newcombe_1998(count: int, total: int, low: float, high: float) -> None:
    """Statistics in Medicine 17:857-872, table I, method 3."""
    found = proportion(count, total)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    assert found.value == count / total


def obvious_auc(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
    pairs = scores[truth == 1, None] - scores[truth == 0]
    return float((pairs > 0).mean() + (pairs == 0).mean() / 2)


def separated_by(distance: float, scans: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    truth = np.repeat([0, 1], scans)
    return truth, np.random.default_rng(seed).normal(truth * distance, 1)


def test_the_interval_holds_the_estimate_and_widens_with_fewer_scans() -> None:
    widths = []
    for scans in (20, 500):
        (found,) = bootstrap([obvious_auc], *separated_by(1.5, scans, seed=1), resamples=300)
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_the_interval_covers_the_true_area_about_as_often_as_it_says() -> None:
    """Of two normal distributions a distance d apart the area is known: Phi(d / sqrt(2))."""
    true_area, hits = norm.cdf(1 / np.sqrt(2)), 0
    for seed in range(150):
        (found,) = bootstrap([obvious_auc], *separated_by(1.0, 40, seed), resamples=200, seed=seed)
        hits += found.low <= true_area <= found.high
    assert 0.88 <= hits / 150 <= 0.99


def test_both_classes_keep_their_size_in_every_resample() -> None:
    truth, scores = separated_by(1, 3, seed=0)
    truth = np.append(truth, 1)
    scores = np.append(scores, 9.0)
    seen: list[tuple[int, int]] = []

    def counting(drawn: NDArray[np.int64], values: NDArray[np.float64]) -> float:
        seen.append((int((drawn == 0).sum()), int((drawn == 1).sum())))
        return float(values.mean())

    bootstrap([counting], truth, scores, resamples=100)
    assert set(seen) == {(3, 4)}


def test_the_same_seed_gives_the_same_interval() -> None:
    truth, scores = separated_by(1, 10, seed=0)
    first, again, other = (bootstrap([obvious_auc], truth, scores, resamples=100, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_reports_every_resample() -> None:
    calls: list[tuple[int, int | None, str]] = []
    bootstrap([obvious_auc], *separated_by(1, 5, seed=0), resamples=7, progress=lambda *call: calls.append(call))
    assert calls == [(n, 7, "Resampling") for n in range(1, 8)]
