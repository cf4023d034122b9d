"""Two implementations of a network and the decisions they come to: probabilities, labels, order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.temperature_scaling import logit


@dataclass(frozen=True)
class PredictionAgreement:
    """How far the answers to the same volumes lie apart.

    Parameters
    ----------
    probability_difference, logit_difference
        The largest over all volumes and classes; NaN if any is.
    label_flips
        Volumes on which the label differs.
    swapped_pairs
        Pairs of volumes that the two put in opposite order, by the probability of the last class.
    auc_difference
        Of the area under the ROC curve, where the truth is known for both of two classes; else None.
    """

    probability_difference: float
    logit_difference: float
    label_flips: int
    swapped_pairs: int
    auc_difference: float | None


def compare_predictions(
    expected: NDArray[np.float64],
    found: NDArray[np.float64],
    contract: Contract,
    truth: Sequence[int] | None = None,
) -> PredictionAgreement:
    """Compare probabilities ``(volumes, classes)``; ``truth`` holds 0 or 1 for each volume."""
    scores = expected[:, -1], found[:, -1]
    return PredictionAgreement(
        probability_difference=float(np.abs(expected - found).max()),
        logit_difference=float(np.abs(logit(expected) - logit(found)).max()),
        label_flips=sum(
            contract.predicted_index(a) != contract.predicted_index(b) for a, b in zip(expected, found, strict=True)
        ),
        swapped_pairs=_count_swapped_pairs(*scores),
        auc_difference=_auc_difference(truth, *scores),
    )


def area_under_curve(truth: Sequence[int], scores: NDArray[np.float64]) -> float:
    """Share of pairs of one volume of each class that are in the right order, ties half.

    The area under the ROC curve (Hanley & McNeil 1982, Radiology 143:29).
    """
    labels = np.asarray(truth)
    above = np.subtract.outer(scores[labels == 1], scores[labels == 0])
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def _auc_difference(
    truth: Sequence[int] | None, expected: NDArray[np.float64], found: NDArray[np.float64]
) -> float | None:
    if truth is None or set(truth) != {0, 1}:
        return None
    return abs(area_under_curve(truth, expected) - area_under_curve(truth, found))


def _count_swapped_pairs(expected: NDArray[np.float64], found: NDArray[np.float64]) -> int:
    signs = [np.sign(np.subtract.outer(scores, scores)) for scores in (expected, found)]
    return int((signs[0] * signs[1] < 0).sum()) // 2
