import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.evaluation.metrics import Metrics, auc, brier, calibration_error, compute_metrics, log_loss, reliability

TRUTH = np.array([0, 0, 0, 1, 1])
SCORES = np.array([0.1, 0.2, 0.7, 0.6, 0.9])


@pytest.fixture(scope="module")
def figures() -> Metrics:
    """At a threshold of one half: one scan of the first class is taken for the second."""
    return compute_metrics(TRUTH, SCORES, (SCORES >= 0.5).astype(np.int64), resamples=200)


def drawn(scans: int, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    scores = rng.random(scans).round(2)  # with ties, and values on the borders of bins
    return (rng.random(scans) < scores**2).astype(np.int64), scores


def test_by_hand(figures: Metrics) -> None:
    assert figures.scans == (3, 2)
    assert figures.auc.value == pytest.approx(5 / 6)  # of 6 pairs, 0.7 against 0.6 is wrong
    assert figures.brier.value == pytest.approx((0.01 + 0.04 + 0.49 + 0.16 + 0.01) / 5)
    assert figures.ece.value == pytest.approx((0.1 + 0.2 + 0.7 + 0.4 + 0.1) / 5)  # each in a bin of its own
    assert figures.log_loss == pytest.approx(-np.log([0.9, 0.8, 0.3, 0.6, 0.9]).mean())


def test_shares_by_hand(figures: Metrics) -> None:
    counts = figures.confusion
    assert (counts.true_negative, counts.false_positive, counts.false_negative, counts.true_positive) == (2, 1, 0, 2)
    assert (figures.accuracy.count, figures.accuracy.total) == (4, 5)
    assert (figures.sensitivity.count, figures.sensitivity.total) == (2, 2)
    assert (figures.specificity.count, figures.specificity.total) == (2, 3)
    assert figures.majority == 3 / 5


def test_the_roc_curve_goes_from_corner_to_corner(figures: Metrics) -> None:
    curve = figures.roc
    points = list(zip(curve.false_positive_rate, curve.true_positive_rate, strict=True))
    assert points[:2] == [(0, 0), (0, 0.5)]
    assert points[-1:] == [(1, 1)]
    assert list(curve.thresholds[:2]) == [None, 0.9]


def test_calibration_error_by_hand_with_shared_bins() -> None:
    #                0.0 to 0.1: mean 0.05, observed 1/2    0.8 to 0.9: mean 0.86, observed 1
    truth, scores = np.array([0, 1, 1, 1, 1]), np.array([0.04, 0.06, 0.84, 0.86, 0.88])
    assert [bin_.scans for bin_ in reliability(truth, scores)] == [2, 3]
    assert calibration_error(truth, scores) == pytest.approx((2 * 0.45 + 3 * 0.14) / 5)


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_equals_an_obvious_one(seed: int) -> None:
    truth, scores = drawn(300, seed)
    error, inner = 0.0, np.linspace(0, 1, 11)[1:-1]
    for number in range(10):
        inside = np.array([sum(border < score for border in inner) == number for score in scores])
        if inside.any():
            error += inside.mean() * abs(truth[inside].mean() - scores[inside].mean())
    assert calibration_error(truth, scores) == pytest.approx(error)


def test_perfect_probabilities_have_nearly_no_calibration_error() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(50_000)
    truth = (rng.random(50_000) < scores).astype(np.int64)
    assert calibration_error(truth, scores) < 0.01
    assert calibration_error(truth, scores**3) > 0.1


@pytest.mark.parametrize("seed", range(3))
def test_area_and_brier_equal_obvious_ones(seed: int) -> None:
    truth, scores = drawn(100, seed)
    pairs = scores[truth == 1, None] - scores[truth == 0]
    assert auc(truth, scores) == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)
    assert brier(truth, scores) == pytest.approx(((scores - truth) ** 2).mean())


def test_intervals_hold_their_estimates() -> None:
    truth, scores = drawn(150)
    figures = compute_metrics(truth, scores, (scores >= 0.5).astype(np.int64), resamples=300)
    for interval in (figures.auc, figures.brier, figures.accuracy, figures.sensitivity, figures.specificity):
        assert interval.low < interval.value < interval.high
    assert figures.ece.low < figures.ece.high


def test_certain_and_wrong_is_expensive_but_finite() -> None:
    assert 10 < log_loss(np.array([0, 1]), np.array([1.0, 0.0])) < 100


def test_a_little_beyond_one_is_rounding() -> None:
    scores = np.array([-1e-4, 0.2, 0.7, 1 + 1e-4])
    figures = compute_metrics(np.array([0, 0, 1, 1]), scores, np.array([0, 0, 1, 1]), resamples=100)
    assert figures.auc.value == 1
