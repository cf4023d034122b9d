import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from ct3d_edge.evaluation.intervals import MetricEstimate
from ct3d_edge.evaluation.paired_metrics import (
    PairedScores,
    auc_difference,
    cohen_kappa,
    compute_paired_metrics,
    perfect_area_bound,
    sensitivities,
    structural_components,
)

OVARIAN_CANCER = """
3.0 5.8 10 0   3.2 6.3  5 1   3.9 6.8  3 1   2.8 4.8  6 0   3.2 5.8  3 1   0.9 4.0  5 0   2.5 5.7  8 0   1.6 5.6  5 1
3.8 5.7  5 1   3.7 6.7  6 1   3.2 5.4  4 1   3.8 6.6  6 1   4.1 6.6  5 1   3.6 5.7  5 1   4.3 7.0  4 1   3.6 6.7  4 0
2.3 4.4  6 1   4.2 7.6  4 0   4.0 6.6  6 0   3.5 5.8  6 1   3.8 6.8  7 1   3.0 4.7  8 0   4.5 7.4  5 1   3.7 7.4  5 1
3.1 6.6  6 1   4.1 8.2  6 1   4.3 7.0  5 1   4.3 6.5  4 1   3.2 5.1  5 1   2.6 4.7  6 1   3.3 6.8  6 0   1.7 4.0  7 0
3.7 6.1  5 1   3.3 6.3  7 1   4.2 7.7  6 1   3.5 6.2  5 1   2.9 5.7  9 0   2.1 4.8  7 1   2.8 6.2  8 0   4.0 7.0  7 1
3.3 5.7  6 1   3.7 6.9  5 1   3.6 6.6  5 1
"""
"""Albumin, total protein, K-G score and benefit of surgery: the complete patients of DeLong et al. 1988."""

NO_BOOTSTRAP = MetricEstimate(0.0, -1.0, 1.0)


def correlated(scans: int, seed: int, ties: bool = False) -> PairedScores:
    """Two models of which each adds noise of its own to what both see."""
    rng = np.random.default_rng(seed)
    truth = np.repeat([0, 1], [scans, 2 * scans])
    seen = rng.normal(truth * 1.2, 1)
    scores = np.stack([seen + rng.normal(0, 0.7, 3 * scans), seen + rng.normal(0, 0.5, 3 * scans)])
    return PairedScores(truth, scores.round(1) if ties else scores, float((scores[1, truth == 0] <= 0.5).mean()))


def obvious_covariance(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """DeLong et al. 1988, equation by equation: one step for each pair of scans."""
    positive, negative = scores[:, truth == 1], scores[:, truth == 0]
    models, m, n = len(scores), positive.shape[1], negative.shape[1]
    psi = np.zeros((models, m, n))
    for r in range(models):
        for i in range(m):
            for j in range(n):
                psi[r, i, j] = 1 if negative[r, j] < positive[r, i] else 0.5 if negative[r, j] == positive[r, i] else 0
    v10, v01, area = psi.mean(axis=2), psi.mean(axis=1), psi.mean(axis=(1, 2))
    s10, s01 = np.zeros((models, models)), np.zeros((models, models))
    for r in range(models):
        for s in range(models):
            s10[r, s] = sum((v10[r, i] - area[r]) * (v10[s, i] - area[s]) for i in range(m)) / (m - 1)
            s01[r, s] = sum((v01[r, j] - area[r]) * (v01[s, j] - area[s]) for j in range(n)) / (n - 1)
    return np.asarray(s10 / m + s01 / n)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_the_fast_variance_equals_the_definition(seed: int, ties: bool) -> None:
    pairs = correlated(15, seed, ties)
    covariance = obvious_covariance(pairs.truth, pairs.scores)
    contrast = np.array([1, -1])
    found = auc_difference(pairs, NO_BOOTSTRAP)
    assert found.standard_error == pytest.approx(np.sqrt(contrast @ covariance @ contrast), rel=1e-10)
    assert (found.low, found.high) == pytest.approx(found.value + norm.ppf([0.025, 0.975]) * found.standard_error)


def test_the_published_example_of_three_tests() -> None:
    """SAS/STAT, example "Comparing Receiver Operating Characteristic Curves": chi-square 2.5340, p 0.2817."""
    albumin, protein, score, truth = np.array(OVARIAN_CANCER.split(), float).reshape(-1, 4).T
    above, below = structural_components(truth.astype(np.int64), np.stack([albumin, protein, 10 - score]))
    covariance = np.cov(above) / above.shape[1] + np.cov(below) / below.shape[1]
    contrasts = np.array([[1, 0, -1], [0, 1, -1]])
    differences = contrasts @ above.mean(axis=1)
    statistic = differences @ np.linalg.solve(contrasts @ covariance @ contrasts.T, differences)
    assert statistic == pytest.approx(2.5340, abs=5e-5)
    assert chi2.sf(statistic, 2) == pytest.approx(0.2817, abs=5e-5)


def test_the_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    """Both areas are known: Phi(distance / standard deviation of a difference of two scans)."""
    true = norm.cdf(1.2 / np.sqrt(2 * 1.49)) - norm.cdf(1.2 / np.sqrt(2 * 1.25))
    found = [auc_difference(correlated(40, seed), NO_BOOTSTRAP) for seed in range(400)]
    assert 0.92 <= np.mean([each.low <= true <= each.high for each in found]) <= 0.98


def test_the_bootstrap_is_paired() -> None:
    """Its interval is that of DeLong, much narrower than that of two separate test sets."""
    pairs = correlated(120, seed=1)
    found = compute_paired_metrics(pairs, np.zeros((2, 1), np.int64), resamples=500).auc_difference
    assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx((found.low, found.high), abs=0.006)
    shuffled = PairedScores(pairs.truth, pairs.scores.copy(), pairs.specificity)
    rng = np.random.default_rng(0)
    for label in (0, 1):
        scans = np.flatnonzero(pairs.truth == label)
        shuffled.scores[1, scans] = shuffled.scores[1, rng.permutation(scans)]
    apart = compute_paired_metrics(shuffled, np.zeros((2, 1), np.int64), resamples=500).auc_difference
    assert apart.value == pytest.approx(found.value)
    assert apart.bootstrap_high - apart.bootstrap_low > 1.3 * (found.bootstrap_high - found.bootstrap_low)


def test_models_that_rank_alike_differ_by_nothing() -> None:
    pairs = correlated(20, seed=2)
    same = PairedScores(pairs.truth, np.stack([np.exp(pairs.scores[1]), pairs.scores[1]]), pairs.specificity)
    found = compute_paired_metrics(same, np.zeros((2, 1), np.int64), resamples=100).auc_difference
    assert (found.value, found.low, found.high, found.standard_error) == (0, 0, 0, 0)
    assert (found.bootstrap_low, found.bootstrap_high) == (0, 0)


@pytest.mark.parametrize(("scans", "shown"), [(3, False), (30, False), (200, True)])
def test_two_perfect_models_show_something_on_many_scans_only(scans: int, shown: bool) -> None:
    truth = np.repeat([0, 1], scans)
    rng = np.random.default_rng(0)
    pairs = PairedScores(truth, truth + rng.uniform(0, 0.5, (2, 2 * scans)), 1.0)
    found = auc_difference(pairs, MetricEstimate(0.0, 0.0, 0.0))
    assert (found.value, found.standard_error) == (0, 0)
    assert (found.least > -0.02) == shown


@pytest.mark.parametrize(("negatives", "positives"), [(5, 5), (30, 40), (200, 200)])
def test_the_bound_of_a_perfect_area_solves_newcombes_equation(negatives: int, positives: int) -> None:
    """Newcombe 2006, method 5; at one scan's spread from 1, and nearer the more scans there are."""
    area = perfect_area_bound(negatives, positives)
    half = (negatives + positives) / 2 - 1
    variance = area * (1 - area) * (1 + half * ((1 - area) / (2 - area) + area / (1 + area))) / (negatives * positives)
    assert (1 - area) ** 2 == pytest.approx(norm.ppf(0.975) ** 2 * variance)
    assert 0.5 < area < 1


def test_a_single_scan_of_a_class_says_nothing() -> None:
    pairs = PairedScores(np.array([0, 1, 1]), np.array([[0.1, 0.5, 0.6], [0.3, 0.2, 0.9]]), 1.0)
    found = compute_paired_metrics(pairs, np.array([[0, 1, 1], [0, 0, 1]]), resamples=100)
    assert (found.auc_difference.low, found.auc_difference.high) == (-1, 1)
    assert (found.sensitivity_difference.low, found.sensitivity_difference.high) == (-1, 1)


def test_sensitivities_by_hand() -> None:
    """Of three scans of the first class two shall be right: the second lowest score is the cut of each model."""
    truth = np.array([0, 0, 0, 1, 1, 1, 1])
    scores = np.array([[0.1, 0.6, 0.3, 0.2, 0.3, 0.4, 0.9], [0.2, 0.4, 0.7, 0.45, 0.3, 0.8, 0.9]])
    assert sensitivities(PairedScores(truth, scores, 2 / 3)) == (2 / 4, 3 / 4)
    assert sensitivities(PairedScores(truth, scores, 0.0)) == (1, 1)
    assert sensitivities(PairedScores(truth, scores, 1.0)) == (1 / 4, 2 / 4)


def test_kappa_by_hand_and_where_it_is_undefined() -> None:
    #          both 0, both 1, and one scan of each kind of disagreement: 4 of 6 alike, 1/2 by chance
    decisions = np.array([[0, 0, 1, 1, 0, 1], [0, 0, 1, 1, 1, 0]])
    assert cohen_kappa(decisions) == pytest.approx((4 / 6 - 0.5) / 0.5)
    assert cohen_kappa(np.zeros((2, 5), np.int64)) is None


def test_all_figures_of_a_comparison() -> None:
    pairs = correlated(40, seed=4)
    decisions = (pairs.scores > 0.5).astype(np.int64)
    found = compute_paired_metrics(pairs, decisions, resamples=200, seed=3)
    assert found.scans == (40, 80)
    assert found.auc_difference.value == pytest.approx(found.auc - found.reference_auc)
    assert found.specificity == pytest.approx(1 - decisions[1][:40].mean())
    assert found.sensitivity_difference.value == pytest.approx(
        found.sensitivity.value - found.reference_sensitivity.value
    )
    assert found.sensitivity.low < found.sensitivity.value < found.sensitivity.high
    assert found.agreement.count == (decisions[0] == decisions[1]).sum()
    assert (found.resamples, found.seed) == (200, 3)
