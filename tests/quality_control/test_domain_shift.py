import numpy as np
import pytest
from training_stats import drawn, statistics

from ct3d_edge.errors import DatasetError
from ct3d_edge.quality_control.domain_shift import MahalanobisOOD
from ct3d_edge.quality_control.reference_stats import THRESHOLD_MARGIN, THRESHOLD_QUANTILE, fit_feature_statistics

SIZE = 12


def obvious(taught: np.ndarray, features: np.ndarray, count: int) -> np.ndarray:
    """The same by a full covariance matrix and its inverse, Tipping & Bishop's equation 1 with its solution 7 and 8."""
    values, vectors = np.linalg.eigh(np.cov(taught.T))
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[count:].mean()
    weights = vectors[:, :count] * np.sqrt(values[:count] - noise)
    inverse = np.linalg.inv(weights @ weights.T + noise * np.eye(taught.shape[1]))
    centred = features - taught.mean(axis=0)
    return np.asarray(np.sqrt(np.einsum("ni,ij,nj->n", centred, inverse, centred) / taught.shape[1]))


@pytest.mark.parametrize("scans", [400, 30])
def test_distances_are_those_of_the_full_covariance(scans: int) -> None:
    taught, others = drawn(scans, SIZE), drawn(50, SIZE, seed=3, noise=2)
    fitted = fit_feature_statistics(taught, drawn(40, SIZE, seed=1))
    expected = obvious(taught, others, len(fitted.directions))
    assert MahalanobisOOD(fitted).distances(others) == pytest.approx(expected, rel=2e-3)


def test_fewer_scans_than_features_are_enough() -> None:
    size = 100
    fitted = fit_feature_statistics(drawn(30, size), drawn(20, size, seed=1))
    distances = MahalanobisOOD(fitted).distances
    assert distances(drawn(200, size, seed=2)).max() < fitted.threshold < distances(drawn(9, size, noise=3)).min()


def test_the_threshold_comes_from_the_scans_held_out() -> None:
    taught, others = drawn(60, SIZE), drawn(30, SIZE, seed=1, noise=4)
    fitted = fit_feature_statistics(taught, others)
    expected = THRESHOLD_MARGIN * np.quantile(MahalanobisOOD(fitted).distances(others), THRESHOLD_QUANTILE)
    assert fitted.threshold == pytest.approx(expected, rel=1e-4)
    assert (fitted.scans, fitted.held_out) == (60, 30)
    assert fitted.threshold > 2 * fit_feature_statistics(taught, drawn(30, SIZE, seed=1)).threshold


def test_what_lies_far_away_is_far_in_any_direction() -> None:
    fitted = statistics(SIZE)
    far = np.asarray(fitted.mean) + 50 * np.eye(SIZE)
    assert (MahalanobisOOD(fitted).distances(far) > fitted.threshold).all()


def test_a_feature_that_is_no_number_is_infinitely_far() -> None:
    features = drawn(3, SIZE)
    features[0, 0], features[1, 3] = np.nan, np.inf
    distances = MahalanobisOOD(statistics(SIZE)).distances(features)
    assert list(np.isinf(distances)) == [True, True, False]


def test_scans_without_numbers_are_not_fitted() -> None:
    taught = drawn(60, SIZE)
    spoilt = np.vstack([taught, np.full((1, SIZE), np.nan)])
    held_out = drawn(30, SIZE, seed=1)
    assert fit_feature_statistics(spoilt, held_out) == fit_feature_statistics(taught, held_out)


def test_one_feature_needs_no_direction() -> None:
    fitted = fit_feature_statistics(drawn(40, 1), drawn(20, 1, seed=1))
    assert fitted.directions == ()
    taught = drawn(40, 1)
    assert MahalanobisOOD(fitted).distances([[taught.mean() + taught.std(ddof=1)]]) == pytest.approx([1], rel=1e-3)


@pytest.mark.parametrize(("taught", "held_out"), [(19, 30), (60, 9)])
def test_too_few_scans_say_nothing(taught: int, held_out: int) -> None:
    with pytest.raises(DatasetError, match=f"{taught} training and {held_out} validation scans are too few"):
        fit_feature_statistics(drawn(taught, SIZE), drawn(held_out, SIZE))


def test_scans_that_all_look_the_same_say_nothing() -> None:
    with pytest.raises(DatasetError, match="the same features"):
        fit_feature_statistics(np.ones((30, SIZE)), np.ones((30, SIZE)))
