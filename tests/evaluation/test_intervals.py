import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from ct3d_edge.evaluation.intervals import bootstrap, bootstrap_scans, proportion
from ct3d_edge.evaluation.metrics import auc, brier, calibration_error


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


def obvious_bca(truth: NDArray[np.int64], scores: NDArray[np.float64], samples: list[float]) -> tuple[float, float]:
    """Efron & Tibshirani 1993, equations 14.9 to 14.15, with the influence of each scan divided by its class's size."""
    value = obvious_auc(truth, scores)
    bias = norm.ppf((np.mean(np.less(samples, value)) + np.mean(np.less_equal(samples, value))) / 2)
    cubes, squares = 0.0, 0.0
    for scans in (np.flatnonzero(truth == label) for label in (0, 1)):
        left_out = np.array([obvious_auc(np.delete(truth, scan), np.delete(scores, scan)) for scan in scans])
        influence = (len(scans) - 1) * (left_out.mean() - left_out)
        cubes += (influence**3).sum() / len(scans) ** 3
        squares += (influence**2).sum() / len(scans) ** 2
    acceleration = cubes / (6 * squares**1.5)
    ends = [bias + (bias + z) / (1 - acceleration * (bias + z)) for z in norm.ppf([0.025, 0.975])]
    low, high = np.quantile(samples, norm.cdf(ends))
    return float(low), float(high)


def test_the_interval_equals_an_obvious_implementation_on_the_same_resamples() -> None:
    truth, scores = separated_by(1.5, 25, seed=3)
    values: list[float] = []

    def record(drawn: NDArray[np.int64], values_drawn: NDArray[np.float64]) -> float:
        values.append(obvious_auc(drawn, values_drawn))
        return values[-1]

    found = bootstrap(record, truth, scores, resamples=500)
    assert (found.low, found.high) == pytest.approx(obvious_bca(truth, scores, values[1:501]), abs=1e-6)
    assert np.percentile(values[1:501], [2.5, 97.5]) != pytest.approx((found.low, found.high), abs=0.005)


def delong(truth: NDArray[np.int64], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The interval of DeLong et al. 1988 (Biometrics 44:837), from the share of pairs that each scan wins."""
    above = scores[truth == 1, None] > scores[truth == 0]
    variance = sum(above.mean(axis).var(ddof=1) / above.shape[1 - axis] for axis in (0, 1))
    return np.asarray(above.mean() + norm.ppf([0.025, 0.975]) * np.sqrt(variance))


def test_the_interval_of_many_scans_is_that_of_delong() -> None:
    truth, scores = separated_by(1.0, 300, seed=5)
    found = bootstrap(obvious_auc, truth, scores, resamples=1000)
    assert [found.low, found.high] == pytest.approx(delong(truth, scores).tolist(), abs=0.006)


def test_the_interval_holds_the_estimate_and_widens_with_fewer_scans() -> None:
    widths = []
    for scans in (20, 500):
        found = bootstrap(obvious_auc, *separated_by(1.5, scans, seed=1), resamples=300)
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_the_interval_covers_the_true_area_about_as_often_as_it_says() -> None:
    """Of two normal distributions a distance d apart the area is known: Phi(d / sqrt(2))."""
    true_area, hits = norm.cdf(1 / np.sqrt(2)), 0
    for seed in range(150):
        found = bootstrap(obvious_auc, *separated_by(1.0, 40, seed), resamples=200, seed=seed)
        hits += found.low <= true_area <= found.high
    assert 0.88 <= hits / 150 <= 0.99


def test_both_classes_have_their_size_in_every_resample() -> None:
    truth, scores = separated_by(1, 3, seed=0)
    truth = np.append(truth, 1)
    scores = np.append(scores, 9.0)
    sizes: list[tuple[int, int]] = []

    def counting(drawn: NDArray[np.int64], values: NDArray[np.float64]) -> float:
        sizes.append((int((drawn == 0).sum()), int((drawn == 1).sum())))
        return float(values.mean())

    bootstrap(counting, truth, scores, resamples=100)
    # First the figure itself, then the resamples, then the figure without one scan after the other.
    assert set(sizes[:101]) == {(3, 4)}
    assert set(sizes[102:]) == {(2, 4), (3, 3)}


def test_the_same_seed_gives_the_same_interval() -> None:
    truth, scores = separated_by(1, 10, seed=0)
    first, again, other = (bootstrap(obvious_auc, truth, scores, resamples=100, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_figures_that_no_resample_changes_have_an_interval_of_no_width() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1])
    separated = bootstrap(auc, truth, np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9]), resamples=100)
    assert (separated.value, separated.low, separated.high) == (1, 1, 1)
    constant = bootstrap(brier, truth, np.full(6, 0.5), resamples=100)
    assert (constant.value, constant.low, constant.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("statistic", [auc, brier, calibration_error])
def test_a_single_scan_of_a_class_says_nothing(statistic: object) -> None:
    found = bootstrap(statistic, np.array([0, 1, 1]), np.array([0.2, 0.4, 0.9]), resamples=100)  # type: ignore[arg-type]
    assert (found.low, found.high) == (0, 1)


def test_reports_every_resample() -> None:
    calls: list[tuple[int, int | None, str]] = []
    bootstrap(obvious_auc, *separated_by(1, 5, seed=0), resamples=7, progress=lambda *call: calls.append(call))
    assert calls == [(n, 7, "Resampling") for n in range(1, 8)]


def test_a_figure_that_is_not_smooth_has_the_percentile_interval() -> None:
    truth, scores = separated_by(1.0, 25, seed=4)
    values: list[float] = []

    def highest_quarter(scans: NDArray[np.int64]) -> float:
        values.append(float(np.quantile(scores[scans], 0.75)))
        return values[-1]

    found = bootstrap_scans(highest_quarter, truth, resamples=300, smooth=False)
    assert len(values) == 301  # no jackknife
    assert (found.low, found.high) == pytest.approx(np.quantile(values[1:], [0.025, 0.975]).tolist())
