import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from products import each_value
from scipy.special import expit, softmax

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError, ModelError, UsageError
from ct3d_edge.temperature_scaling import (
    TEMPERATURE_SEARCH_RANGE,
    ThresholdRule,
    apply_temperature,
    apply_temperature_to_scores,
    check_temperature,
    choose_threshold_for_sensitivity,
    choose_youden_threshold,
    fit_operating_point,
    fit_temperature,
    logit,
)

Scores = NDArray[np.float64]


def drawn(scans: int, *, sharpness: float = 1.0, seed: int = 0) -> tuple[Scores, NDArray[np.int64]]:
    """Scores whose logits are ``sharpness`` times too large, and the truth drawn from what they should have been."""
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2, scans)
    return expit(z * sharpness), (rng.random(scans) < expit(z)).astype(np.int64)


def log_loss(scores: Scores, truth: NDArray[np.int64], temperature: float) -> float:
    from sklearn import metrics

    return float(metrics.log_loss(truth, expit(logit(scores) / temperature)))


@pytest.mark.parametrize(("temperature", "classes"), each_value([0.05, 0.5, 0.999, 1.3, 20.0], [2, 3, 7]))
def test_tempering_probabilities_is_tempering_the_logits_of_a_softmax(temperature: float, classes: int) -> None:
    z = np.random.default_rng(classes).normal(0, 4, (50, classes))
    assert apply_temperature(softmax(z, axis=1), temperature) == pytest.approx(
        softmax(z / temperature, axis=1), abs=1e-12
    )


@pytest.mark.parametrize("temperature", [0.3, 2.5])
def test_of_two_classes_it_is_the_sigmoid_of_the_divided_logit(temperature: float) -> None:
    scores = np.linspace(0.001, 0.999, 101)
    obvious = expit(np.log(scores / (1 - scores)) / temperature)
    assert apply_temperature_to_scores(scores, temperature) == pytest.approx(obvious, abs=1e-12)


def test_a_temperature_of_one_changes_no_bit() -> None:
    values = np.random.default_rng(0).random((100, 3))
    assert np.array_equal(apply_temperature(values, 1.0), values)


@pytest.mark.parametrize("temperature", [0.01, 0.7, 100.0])
def test_certainty_stays_certain(temperature: float) -> None:
    assert np.array_equal(apply_temperature_to_scores([0.0, 0.5, 1.0], temperature), [0, 0.5, 1])


def test_small_probabilities_do_not_vanish_together() -> None:
    many = np.full((1, 10_000), 1e-4)
    assert apply_temperature(many, 0.01) == pytest.approx(many)


@pytest.mark.parametrize("row", [[0.5, np.nan], [np.inf, -np.inf], [-np.inf, 1.0], [0.0, 0.0]], ids=str)
def test_what_is_no_probability_becomes_nan_and_touches_no_other_scan(row: list[float]) -> None:
    found = apply_temperature(np.array([row, [0.25, 0.75]]), 2.0)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_what_rounding_put_outside_counts_as_the_end() -> None:
    assert apply_temperature(np.array([[-1e-4, 1 + 1e-4]]), 2.0).tolist() == [[0, 1]]


def test_logit_is_bounded() -> None:
    found = logit(np.array([0.0, 0.25, 1.0]))
    assert found[1] == pytest.approx(-np.log(3))
    assert np.isfinite(found).all()


@pytest.mark.parametrize("sharpness", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_a_sharpness(sharpness: float) -> None:
    assert fit_temperature(*drawn(20_000, sharpness=sharpness)) == pytest.approx(sharpness, rel=0.05)


def test_no_temperature_on_a_grid_has_a_smaller_log_loss() -> None:
    scores, truth = drawn(60, sharpness=2.5, seed=4)
    best = log_loss(scores, truth, fit_temperature(scores, truth))
    assert best <= min(log_loss(scores, truth, t) for t in np.geomspace(*TEMPERATURE_SEARCH_RANGE, 500)) + 1e-9


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ([0.1, 0.2, 0.9], [1, 1, 1], 1.0),
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0),
        ([0.0, 0.5, 0.5, 1.0], [0, 0, 1, 1], 1.0),
        ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], TEMPERATURE_SEARCH_RANGE[1]),
        ([0.0, 1.0], [1, 0], TEMPERATURE_SEARCH_RANGE[1]),
    ],
    ids=["one class", "separated", "separated, with ends and middle", "the wrong way round", "certain and wrong"],
)
def test_where_no_temperature_is_best_the_answer_is_bounded(
    scores: list[float], truth: list[int], expected: float
) -> None:
    assert fit_temperature(scores, truth) == pytest.approx(expected, rel=1e-4)


def test_youden_by_hand() -> None:
    #         0     0     1     0     1     1
    scores = [0.10, 0.20, 0.30, 0.40, 0.60, 0.80]
    # From 0.5 on: 2 of 3 found, 3 of 3 spared, J = 2/3. From 0.25 on: 3 of 3 and 2 of 3, J = 2/3: misses fewer.
    assert choose_youden_threshold(scores, [0, 0, 1, 0, 1, 1]) == pytest.approx(0.25)
    assert choose_youden_threshold(scores, [0, 0, 0, 0, 1, 1]) == pytest.approx(0.5)


def test_youden_is_the_best_of_scikit_learns_roc_curve() -> None:
    from sklearn import metrics

    scores, truth = drawn(200, seed=1)
    false, true, _ = metrics.roc_curve(truth, scores)
    answers = scores >= choose_youden_threshold(scores, truth)
    assert answers[truth == 1].mean() - answers[truth == 0].mean() == pytest.approx((true - false).max())


@pytest.mark.parametrize(
    ("target", "expected"), [(1.0, 0.25), (0.7, 0.25), (2 / 3, 0.5), (0.5, 0.5), (1 / 3, 0.7), (0.01, 0.7)]
)
def test_the_threshold_is_the_highest_that_reaches_the_sensitivity(target: float, expected: float) -> None:
    scores = [0.10, 0.20, 0.30, 0.40, 0.60, 0.80]
    assert choose_threshold_for_sensitivity(scores, [0, 0, 1, 0, 1, 1], target) == pytest.approx(expected)


def test_every_scan_can_be_found_even_if_the_lowest_score_is_one() -> None:
    assert choose_threshold_for_sensitivity([0.2, 0.6, 0.9], [1, 0, 0], 1.0) == pytest.approx(0.1)


def test_no_threshold_sits_on_a_scan() -> None:
    scores, truth = drawn(100, seed=2)
    for rule in (ThresholdRule(), *(ThresholdRule(share) for share in np.linspace(0.05, 1, 20))):
        assert np.abs(scores - rule.threshold(scores, truth)).min() > 0


def test_neighbouring_floats_are_still_told_apart() -> None:
    low = 0.5
    high = math.nextafter(low, 1)
    threshold = choose_youden_threshold([low, high], [0, 1])
    assert low < threshold <= high


@pytest.mark.parametrize("rule", [ThresholdRule(), ThresholdRule(0.9)], ids=str)
def test_a_threshold_needs_two_classes_and_two_scores(rule: ThresholdRule) -> None:
    with pytest.raises(DatasetError, match="needs scans of both classes"):
        rule.threshold([0.1, 0.2], [1, 1])
    with pytest.raises(DatasetError, match="same score"):
        rule.threshold([0.4, 0.4], [0, 1])


@pytest.mark.parametrize(
    ("text", "rule"),
    [("youden", ThresholdRule()), ("sensitivity=0.95", ThresholdRule(0.95)), ("sensitivity=1", ThresholdRule(1.0))],
)
def test_rules_are_parsed_and_told(text: str, rule: ThresholdRule) -> None:
    assert ThresholdRule.parse(text) == rule
    assert str(rule) == text


@pytest.mark.parametrize("text", ["", "Youden", "sensitivity", "sensitivity=", "sensitivity=high", "youden=1", "f1=1"])
def test_what_is_no_rule_is_wrong_usage(text: str) -> None:
    with pytest.raises(UsageError, match=r"youden or, for example, sensitivity=0\.95"):
        ThresholdRule.parse(text)


@pytest.mark.parametrize("share", ["0", "-0.5", "1.01", "nan", "inf"])
def test_a_sensitivity_is_a_share(share: str) -> None:
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        ThresholdRule.parse(f"sensitivity={share}")


def test_the_threshold_is_that_of_the_tempered_scores() -> None:
    scores, truth = drawn(400, sharpness=3, seed=3)
    made = fit_operating_point(Contract(threshold=0.9, temperature=7), scores, truth, ThresholdRule(0.95))
    assert made.temperature == pytest.approx(fit_temperature(scores, truth))
    after = apply_temperature_to_scores(scores, made.temperature)
    assert made.threshold == pytest.approx(choose_threshold_for_sensitivity(after, truth, 0.95))
    assert (after[truth == 1] >= made.threshold).mean() >= 0.95


@pytest.mark.parametrize("change", [{"orientation": "stored"}, {"labels": ("a", "b")}])
def test_nothing_else_in_the_contract_changes(change: dict[str, Any]) -> None:
    contract = Contract(**change)
    made = fit_operating_point(contract, *drawn(50), ThresholdRule())
    assert {name for name in vars(made) if getattr(made, name) != getattr(contract, name)} == {
        "temperature",
        "threshold",
    }


def test_more_than_two_classes_have_no_threshold() -> None:
    with pytest.raises(ModelError, match="this model has 3"):
        fit_operating_point(Contract(labels=("a", "b", "c"), outputs=3), [0.1, 0.9], [0, 1], ThresholdRule())


@pytest.mark.parametrize(
    ("temperature", "scans", "said"),
    [
        (1.2, 60, []),
        (0.19, 6, ["6 scans only", "0.19 is far from 1"]),
        (14.3, 400, ["14.3 is far from 1"]),
        (1, 29, ["29"]),
    ],
)
def test_a_temperature_that_cannot_be_relied_on_is_said_so(temperature: float, scans: int, said: list[str]) -> None:
    warnings = check_temperature(temperature, scans)
    assert len(warnings) == len(said)
    assert all(part in warning for part, warning in zip(said, warnings, strict=True))
