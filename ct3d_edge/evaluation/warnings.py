"""What speaks against taking a model's figures at face value, said aloud."""

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.evaluation.predict import Predictions
from ct3d_edge.splits.split import Subset

LEAST_RANGE = 0.05
"""A model whose probabilities all lie within less than this has nothing to say about the scans."""

FEW_SCANS = 30
"""With fewer of a class, one scan moves its share by more than 3 points."""

OPTIMISTIC = {
    "train": "Training scans teach every model made from this split: the figures say how well it remembers them.",
    "validation": "Validation scans choose the weights of every model made from this split, and its threshold and "
    "temperature: the figures are optimistic.",
}


def identical_predictions_warning(verdicts: Predictions, contract: Contract) -> tuple[str, ...]:
    """Warn of a model that answers nearly the same for every scan: the gravest thing to be said of one."""
    return (*narrow_range_warning(verdicts.scores, contract), *constant_prediction_warning(verdicts, contract))


def narrow_range_warning(scores: NDArray[np.float64], contract: Contract) -> tuple[str, ...]:
    """Warn if the probabilities ``(N,)`` hardly differ."""
    low, high = float(scores.min()), float(scores.max())
    if high - low >= LEAST_RANGE:
        return ()
    return (
        f"The model answers nearly the same for every scan: its probability of {contract.labels[1]} lies between "
        f"{low:.4f} and {high:.4f}. It has learned too little, or the scans are not prepared as in its training.",
    )


def constant_prediction_warning(verdicts: Predictions, contract: Contract) -> tuple[str, ...]:
    """Warn if all scans lie on one side of the threshold."""
    if len(np.unique(verdicts.answers)) > 1:
        return ()
    label = contract.labels[verdicts.answers[0]]
    return (
        f"The model answers {label} for every scan: all probabilities ({verdicts.scores.min():.4f} to "
        f"{verdicts.scores.max():.4f}) lie on one side of its threshold {contract.threshold:.4f}. Its accuracy only "
        f"counts how many scans are {label}.",
    )


def evaluation_limits(verdicts: Predictions, contract: Contract, subset: Subset) -> tuple[str, ...]:
    """What the scans cannot show, even of a good model."""
    said = [OPTIMISTIC[subset]] if subset in OPTIMISTIC else []
    if verdicts.scores[verdicts.truth == 1].min() > verdicts.scores[verdicts.truth == 0].max():
        said.append("The classes do not overlap here: every resample has the AUC 1, and its interval says nothing.")
    return (*said, *few_scans_warning(verdicts.truth, contract))


def few_scans_warning(truth: NDArray[np.int64], contract: Contract) -> tuple[str, ...]:
    """Warn if a class has few scans."""
    counts = [(int((truth == index).sum()), label) for index, label in enumerate(contract.labels)]
    few = [f"{count} {label}" for count, label in counts if count < FEW_SCANS]
    if not few:
        return ()
    return (f"Few scans ({', '.join(few)}): intervals are wide, and that of the calibration error still too narrow.",)
