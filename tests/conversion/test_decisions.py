import numpy as np
import pytest

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.parity import area_under_curve, compare_predictions


def columns(scores: list[float]) -> np.ndarray:
    values = np.array(scores)
    return np.stack([1 - values, values], axis=1)


def test_figures_of_a_small_table() -> None:
    found = compare_predictions(
        columns([0.1, 0.2, 0.6, 0.9]), columns([0.1, 0.1, 0.45, 0.05]), Contract(), truth=[0, 1, 0, 1]
    )
    assert found.probability_difference == pytest.approx(0.85)
    assert found.label_flips == 2
    assert found.swapped_pairs == 3, "the last volume fell below the other three"
    assert found.auc_difference == pytest.approx(0.75 - 0.125)


def test_without_both_classes_there_is_no_auc() -> None:
    pair = columns([0.1, 0.2]), columns([0.1, 0.3])
    assert compare_predictions(*pair, Contract()).auc_difference is None
    assert compare_predictions(*pair, Contract(), truth=[1, 1]).auc_difference is None


def test_a_nan_stays_one() -> None:
    assert np.isnan(compare_predictions(columns([0.1, 0.2]), columns([0.1, np.nan]), Contract()).probability_difference)


def test_the_area_is_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(0)
    truth, scores = rng.integers(0, 2, 40), rng.integers(0, 9, 40) / 8
    pairs = [(a, b) for a in scores[truth == 1] for b in scores[truth == 0]]
    obvious = sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)
    assert area_under_curve(list(truth), scores) == pytest.approx(obvious)
