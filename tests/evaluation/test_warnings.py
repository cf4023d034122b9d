from collections.abc import Sequence

import pytest

from ct3d_edge.contract import Contract
from ct3d_edge.evaluation.predict import Predictions, ScanPrediction
from ct3d_edge.evaluation.warnings import evaluation_limits, identical_predictions_warning

CONTRACT = Contract()


def verdicts(*scores: float, truth: Sequence[int]) -> Predictions:
    rows = enumerate(zip(scores, truth, strict=True))
    return Predictions(tuple(ScanPrediction(f"scan {n}", f"{n:064}", t, int(s >= 0.5), s) for n, (s, t) in rows), ())


def test_a_model_that_tells_scans_apart_is_not_blamed() -> None:
    assert identical_predictions_warning(verdicts(0.2, 0.4, 0.6, truth=[0, 1, 1]), CONTRACT) == ()


def test_nearly_the_same_answer_is_said() -> None:
    (said,) = identical_predictions_warning(verdicts(0.49, 0.5, 0.51, truth=[0, 1, 1]), CONTRACT)
    assert "nearly the same for every scan: its probability of abnormal is between 0.4900 and 0.5100" in said


def test_all_on_one_side_is_said() -> None:
    (said,) = identical_predictions_warning(verdicts(0.6, 0.8, 0.9, truth=[0, 1, 1]), CONTRACT)
    assert "predicts abnormal for every scan" in said
    (said,) = identical_predictions_warning(verdicts(0.1, 0.2, 0.4, truth=[0, 1, 1]), CONTRACT)
    assert "predicts normal for every scan" in said


def test_both_are_said_together() -> None:
    assert len(identical_predictions_warning(verdicts(0.60, 0.61, truth=[0, 1]), CONTRACT)) == 2


@pytest.mark.parametrize(
    ("subset", "said"), [("train", "how well it remembers"), ("validation", "metrics are optimistic")]
)
def test_scans_that_taught_or_chose_are_no_test(subset: str, said: str) -> None:
    found = evaluation_limits(verdicts(*[0.1, 0.9] * 40, truth=[0, 1, 1, 0] * 20), CONTRACT, subset)  # type: ignore[arg-type]
    assert len(found) == 1
    assert said in found[0]


def test_enough_overlapping_test_scans_raise_no_doubt() -> None:
    assert evaluation_limits(verdicts(*[0.1, 0.9] * 40, truth=[0, 1, 1, 0] * 20), CONTRACT, "test") == ()


def test_perfect_separation_and_few_scans_are_said() -> None:
    separated, few = evaluation_limits(verdicts(0.1, 0.2, 0.9, truth=[0, 0, 1]), CONTRACT, "test")
    assert "every resample has the AUC 1" in separated
    assert "2 normal, 1 abnormal" in few
