"""From outputs of a network to probabilities: activation, temperature scaling, and the decision threshold.

Temperature and threshold are fitted to scores of scans that the network was not trained on, and stored in the contract.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError, ModelError, UsageError

LOGIT_CLIP = 1e-7
"""Probabilities are clipped to this distance from 0 and 1 before a logit is taken; float32 resolves no finer near 1."""

TEMPERATURE_SEARCH_RANGE = (0.05, 20.0)
"""Temperatures among which the best is looked for: a few dozen scans cannot support a factor beyond 20."""

USUAL_TEMPERATURE_RANGE = (0.25, 4.0)
"""Temperatures that networks need; Guo et al. 2017 (arXiv 1706.04599) found 1.1 to 3 for image classifiers."""

MIN_SCANS_FOR_TEMPERATURE = 30
"""Scans below which one more of them may change the temperature by a third."""

NUM_CLASSES = 2


@dataclass(frozen=True)
class ThresholdRule:
    """How a threshold is chosen.

    Parameters
    ----------
    sensitivity
        Share of the second class that must be found; None for the largest sum of sensitivity and specificity
        (Youden 1950, Cancer 3:32).

    Raises
    ------
    UsageError
        If the share is not above 0 and at most 1.
    """

    sensitivity: float | None = None

    def __post_init__(self) -> None:
        if self.sensitivity is not None and not 0 < self.sensitivity <= 1:
            raise UsageError(f"The sensitivity to reach must be above 0 and at most 1, found {self.sensitivity}.")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``youden`` or ``sensitivity=0.95``.

        Raises
        ------
        UsageError
            If it is neither.
        """
        name, equals, share = text.partition("=")
        if text == "youden":
            return cls()
        try:
            if name == "sensitivity" and equals:
                return cls(float(share))
        except ValueError:
            pass
        raise UsageError(f"A rule is youden or, for example, sensitivity=0.95; found {text!r}.")

    def __str__(self) -> str:
        return "youden" if self.sensitivity is None else f"sensitivity={self.sensitivity:g}"

    def threshold(self, scores: ArrayLike, truth: ArrayLike) -> float:
        """Choose a threshold, see `choose_youden_threshold` and `choose_threshold_for_sensitivity`."""
        if self.sensitivity is None:
            return choose_youden_threshold(scores, truth)
        return choose_threshold_for_sensitivity(scores, truth, self.sensitivity)


def logit(probabilities: ArrayLike) -> NDArray[np.float64]:
    """``log(p / (1 - p))``, bounded by ``LOGIT_CLIP``."""
    clipped = np.clip(np.asarray(probabilities, np.float64), LOGIT_CLIP, 1 - LOGIT_CLIP)
    return np.asarray(np.log(clipped / (1 - clipped)))


def to_probabilities(output: NDArray[np.float32], contract: Contract) -> NDArray[np.float64]:
    """Apply the contract's activation and temperature, and give every class its column.

    Parameters
    ----------
    output
        ``(N, contract.outputs)`` network output.

    Returns
    -------
    ndarray
        ``(N, len(contract.labels))`` float64. NaN stays NaN.
    """
    values = output.astype(np.float64)
    if contract.activation == "sigmoid":
        values = 1 / (1 + np.exp(-np.clip(values / contract.temperature, -700, 700)))
    if contract.activation == "softmax":
        powers = np.exp((values - values.max(axis=1, keepdims=True)) / contract.temperature)
        values = powers / powers.sum(axis=1, keepdims=True)
    columns = np.hstack([1 - values, values]) if contract.outputs == 1 else values
    return apply_temperature(columns, contract.temperature) if contract.activation == "identity" else columns


def apply_temperature(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Divide the logits behind probabilities by a temperature, without the logits.

    A softmax of ``z / T`` is ``p ** (1 / T)``, made to add up to one again. For two classes that is the sigmoid of
    ``logit(p) / T``. Exactly 0 and 1 stay, and at a temperature of 1 every bit does.

    Parameters
    ----------
    probabilities
        ``(N, K)`` float64, a row a scan. What rounding put below 0 counts as 0; a row with NaN or infinity
        becomes NaN.
    """
    if temperature == 1:
        return probabilities
    finite = np.where(np.isfinite(probabilities), np.maximum(probabilities, 0), np.nan)
    # Against the largest: a power of many small probabilities would be 0 for all of them.
    with np.errstate(invalid="ignore"):  # a row of zeros is no probability: NaN says so
        powers = (finite / finite.max(axis=1, keepdims=True)) ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def apply_temperature_to_scores(scores: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """``(N,)`` probabilities of the second of two classes, at another temperature; see `apply_temperature`."""
    values = np.asarray(scores, np.float64)
    return apply_temperature(np.column_stack([1 - values, values]), temperature)[:, 1]


def fit_temperature(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Find the temperature of the smallest log loss (Guo, Pleiss, Sun, Weinberger 2017, arXiv 1706.04599).

    Where the log loss has no minimum, the result is 1: with scans of one class only, and where every scan is on the
    correct side of one half, since the loss then falls with the temperature without end. Otherwise the result is in
    ``TEMPERATURE_SEARCH_RANGE``, at its upper end if the scores are worse than none.

    Parameters
    ----------
    probabilities
        ``(N,)`` probability of the second of two classes under temperature 1; see `logit` for those near 0 and 1.
    truth
        ``(N,)`` class indices 0 and 1.
    """
    from scipy.optimize import minimize_scalar

    labels = np.asarray(truth, bool)
    margins = np.where(labels, 1, -1) * logit(probabilities)
    if len(np.unique(labels)) < NUM_CLASSES or (margins >= 0).all():
        return 1.0

    def log_loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -margins / math.exp(log_temperature)).mean())

    low, high = map(math.log, TEMPERATURE_SEARCH_RANGE)
    found = minimize_scalar(log_loss, bounds=(low, high), method="bounded", options={"xatol": 1e-8})
    return float(math.exp(found.x))


def choose_youden_threshold(scores: ArrayLike, truth: ArrayLike) -> float:
    """Find the threshold of the largest sensitivity + specificity; of equal ones the lowest, which misses the fewest.

    It lies midway between two neighbouring scores, so that no scan sits on it.

    Parameters
    ----------
    scores
        ``(N,)`` probability of the second class.
    truth
        ``(N,)`` class indices 0 and 1.

    Raises
    ------
    DatasetError
        If a class is missing, or all scores are equal.
    """
    thresholds, sensitivity, specificity = _candidate_thresholds(scores, truth)
    return float(thresholds[1:][np.argmax((sensitivity + specificity)[1:])])


def choose_threshold_for_sensitivity(scores: ArrayLike, truth: ArrayLike, target: float) -> float:
    """Find the highest threshold that still finds this share of the second class; 0 < ``target`` <= 1.

    It lies midway between neighbouring scores, or between 0 and the lowest one. For the rest see
    `choose_youden_threshold`.
    """
    thresholds, sensitivity, _ = _candidate_thresholds(scores, truth)
    return float(thresholds[sensitivity >= target][-1])


def fit_operating_point(
    contract: Contract, probabilities: ArrayLike, truth: ArrayLike, rule: ThresholdRule
) -> Contract:
    """Fit temperature and then, to the tempered scores, the threshold.

    Parameters
    ----------
    contract
        Of a model with two classes; its temperature and threshold are replaced.
    probabilities
        ``(N,)`` probability of the second class under temperature 1.
    truth
        ``(N,)`` class indices 0 and 1.
    rule
        How the threshold is chosen.

    Raises
    ------
    ModelError
        If the contract has more than two classes.
    DatasetError
        If a class is missing, or no threshold tells the classes apart.
    """
    if len(contract.labels) != NUM_CLASSES:
        raise ModelError(f"A threshold stands between two classes; this model has {len(contract.labels)}.")
    temperature = fit_temperature(probabilities, truth)
    threshold = rule.threshold(apply_temperature_to_scores(probabilities, temperature), truth)
    return replace(contract, temperature=temperature, threshold=threshold)


def check_temperature(temperature: float, scans: int) -> tuple[str, ...]:
    """Warnings about a temperature that was fitted to so many scans."""
    few = (
        f"Temperature and threshold were fitted to {scans} scans only; {MIN_SCANS_FOR_TEMPERATURE} "
        "are the least to rely on."
    )
    unusual = (
        f"A temperature of {temperature:.3g} is far from 1 (usual: {USUAL_TEMPERATURE_RANGE[0]:g} to "
        f"{USUAL_TEMPERATURE_RANGE[1]:g}): "
        "the scores of these scans do not show how sure the network is."
    )
    return (few,) * (scans < MIN_SCANS_FOR_TEMPERATURE) + (unusual,) * (
        not USUAL_TEMPERATURE_RANGE[0] <= temperature <= USUAL_TEMPERATURE_RANGE[1]
    )


def _candidate_thresholds(
    scores: ArrayLike, truth: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Rising thresholds, one below all scores and one in each gap; what sensitivity and specificity each gives."""
    values, labels = np.asarray(scores, np.float64), np.asarray(truth, bool)
    if len(np.unique(labels)) < NUM_CLASSES:
        raise DatasetError("A threshold needs scans of both classes.")
    distinct: NDArray[np.float64] = np.unique(values)
    if len(distinct) == 1:
        raise DatasetError("The model gives every scan the same score: no threshold tells the classes apart.")
    below: Sequence[float] = [0.0, *distinct[:-1]]
    middle = (below + distinct) / 2
    thresholds = np.where(middle > below, middle, distinct)  # neighbouring floats have no middle
    sensitivity = (values[labels, None] >= thresholds).mean(axis=0)
    specificity = (values[~labels, None] < thresholds).mean(axis=0)
    return thresholds, sensitivity, specificity
