"""Warnings about an evaluation: a model that predicts nearly the same for all scans, a test set that shows little."""

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.evaluation.predict import Predictions
from ct3d_edge.splits.split import Subset

LEAST_RANGE = 0.05
"""A model whose probabilities span less than this does not separate the scans."""

FEW_SCANS = 30
"""With fewer of a class, one scan moves its share by more than 3 points."""

OPTIMISTIC = {
    "train": "These are training scans of every model of this split: the metrics show how well it remembers them.",
    "validation": "Validation scans select weights, threshold and temperature of every model of this split: the "
    "metrics are optimistic.",
}


def identical_predictions_warning(predictions: Predictions, contract: Contract) -> tuple[str, ...]:
    """Warn of a model that predicts nearly the same for every scan: the most serious warning."""
    return (*narrow_range_warning(predictions.scores, contract), *constant_prediction_warning(predictions, contract))


def narrow_range_warning(scores: NDArray[np.float64], contract: Contract) -> tuple[str, ...]:
    """Warn if the probabilities ``(N,)`` hardly differ."""
    low, high = float(scores.min()), float(scores.max())
    if high - low >= LEAST_RANGE:
        return ()
    return (
        f"The model predicts nearly the same for every scan: its probability of {contract.labels[1]} is between "
        f"{low:.4f} and {high:.4f}. It has learned too little, or the scans are not prepared as in its training.",
    )


def constant_prediction_warning(predictions: Predictions, contract: Contract) -> tuple[str, ...]:
    """Warn if all scans are on one side of the threshold."""
    if len(np.unique(predictions.predicted)) > 1:
        return ()
    label = contract.labels[predictions.predicted[0]]
    return (
        f"The model predicts {label} for every scan: all probabilities ({predictions.scores.min():.4f} to "
        f"{predictions.scores.max():.4f}) are on one side of its threshold {contract.threshold:.4f}. Its accuracy only "
        f"counts how many scans are {label}.",
    )


def evaluation_limits(predictions: Predictions, contract: Contract, subset: Subset) -> tuple[str, ...]:
    """Warn of a test set from which little can be concluded."""
    warnings = [OPTIMISTIC[subset]] if subset in OPTIMISTIC else []
    if predictions.scores[predictions.truth == 1].min() > predictions.scores[predictions.truth == 0].max():
        warnings.append("The classes do not overlap here: every resample has the AUC 1, and its interval has no width.")
    return (*warnings, *few_scans_warning(predictions.truth, contract))


def few_scans_warning(truth: NDArray[np.int64], contract: Contract) -> tuple[str, ...]:
    """Warn if a class has few scans."""
    counts = [(int((truth == index).sum()), label) for index, label in enumerate(contract.labels)]
    few = [f"{count} {label}" for count, label in counts if count < FEW_SCANS]
    if not few:
        return ()
    return (f"Few scans ({', '.join(few)}): intervals are wide, and that of the calibration error still too narrow.",)
