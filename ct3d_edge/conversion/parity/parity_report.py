"""The parity check: predictions of a model file compared with those of its source. Without it no file is written."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.conversion.parity.tensor_parity import TensorParity
from ct3d_edge.errors import CheckFailedError, UsageError
from ct3d_edge.formatting import plural
from ct3d_edge.session.golden_search import MIN_SPREAD, probability_spread
from ct3d_edge.session.runner import Runner
from ct3d_edge.temperature_scaling import logit

ReferenceFn = Callable[[NDArray[np.float32]], NDArray[np.float64]]
"""Predicts one network input, ``contract.shape``: probabilities ``(classes,)`` of a Keras network or another file."""

OutputPair = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Probabilities ``(classes,)`` of one volume: those expected and those found."""

MIN_PARITY_VOLUMES = 8

PROVENANCE_KEYS = {"description": "material", "simulated": "rehearsed"}
"""Names of fields in files, where they differ."""

DEFAULT_PARITY_ATOL = 1e-5
"""Largest difference of a probability that float32 arithmetic in another order explains for networks of this size."""


@dataclass(frozen=True)
class PredictionAgreement:
    """Differences between two predictions of the same volumes.

    Parameters
    ----------
    probability_difference, logit_difference
        The largest over all volumes and classes; NaN if any is.
    label_flips
        Number of volumes whose predicted label differs.
    swapped_pairs
        Number of pairs of volumes in opposite order, by the probability of the last class.
    auc_difference
        Of the area under the ROC curve; None unless volumes of both classes are labelled.
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


@dataclass(frozen=True)
class ParityReport:
    """Result of comparing two implementations of a network on the same volumes.

    Parameters
    ----------
    volumes, description
        Number of compared volumes, and their description.
    provider
        Provider that ran the file.
    probability_difference, logit_difference, label_flips, swapped_pairs, auc_difference
        As in `PredictionAgreement`; the first is also the smallest limit that would have passed.
    probability_range
        Lowest and highest probability of the last class, by the reference. If they hardly differ, passing says little.
    limit
        For the probability difference.
    simulated
        Whether float16 was simulated in float32, with each tensor rounded as on a device with float16.
    tensors
        Comparison of tensors between input and output; None if there is none.
    weakness
        Why passing on these volumes says little; None if it says enough.
    scans
        How many of the volumes are real scans; None if that is not known.
    """

    volumes: int
    description: str
    provider: str
    probability_difference: float
    logit_difference: float
    label_flips: int
    swapped_pairs: int
    auc_difference: float | None
    probability_range: tuple[float, float]
    limit: float
    simulated: bool = False
    tensors: TensorParity | None = None
    weakness: str | None = None
    scans: int | None = None

    @property
    def within_tolerance(self) -> bool:
        """Whether probabilities are within the limit and no label changed; False with a NaN."""
        return self.probability_difference <= self.limit and self.label_flips == 0

    @classmethod
    def from_outputs(
        cls,
        pairs: Sequence[OutputPair],
        runner: Runner,
        *,
        description: str,
        limit: float,
        scans: int | None = None,
        truth: Sequence[int] | None = None,
    ) -> Self:
        """Compare pairs of expected and found probabilities, one a volume; ``runner`` computed the second.

        Raises
        ------
        UsageError
            With fewer than eight pairs.
        """
        if len(pairs) < MIN_PARITY_VOLUMES:
            raise UsageError(f"A parity check needs at least {MIN_PARITY_VOLUMES} volumes, found {len(pairs)}.")
        expected, found = (np.stack(side) for side in zip(*pairs, strict=True))
        return cls(
            volumes=len(pairs),
            description=description,
            scans=scans,
            provider=runner.run_report.actual,
            probability_range=(float(expected[:, -1].min()), float(expected[:, -1].max())),
            limit=limit,
            weakness=_describe_low_spread(expected),
            **asdict(compare_predictions(expected, found, runner.contract, truth)),
        )

    @property
    def passed(self) -> bool:
        """Whether decisions and, where they were compared, tensors are as they must be."""
        return self.within_tolerance and (self.tensors is None or self.tensors.passed)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the provenance."""
        return {PROVENANCE_KEYS.get(name, name): value for name, value in asdict(self).items()}

    def describe(self) -> str:
        """One line of text."""
        low, high = self.probability_range
        auc = "" if self.auc_difference is None else f", AUC differs by {self.auc_difference:.1e}"
        return (
            f"{plural(self.volumes, 'volume')} ({self.description}) on {self.provider}"
            f"{' with rounding' if self.simulated else ''}: "
            f"largest difference of probability {self.probability_difference:.1e} (limit {self.limit:.0e}), of logit "
            f"{self.logit_difference:.1e}, {plural(self.label_flips, 'label flip')}{auc}; probabilities from "
            f"{low:.3f} to {high:.3f}"
        )


def require_parity(parity: ParityReport, locate_failure: Callable[[], str] = str) -> None:
    """Raise if a parity check failed; ``locate_failure`` describes the cause in a sentence.

    Raises
    ------
    CheckFailedError
        It failed, or all volumes have the same probability.
    """
    if not parity.within_tolerance:
        raise CheckFailedError(
            f"The parity check failed: {parity.describe()}. No file was written. The smallest limit that would have "
            f"passed is {parity.probability_difference:.1e}.{_locate_failure(locate_failure)}"
        )
    if parity.tensors is not None and not parity.tensors.passed:
        raise CheckFailedError(
            f"The parity check failed on {parity.provider}, although the predictions agree: "
            f"{parity.tensors.describe()}. No file was written. The smallest limit that would have passed is "
            f"{parity.tensors.worst.largest:.1e}.{_locate_failure(locate_failure)}"
        )
    low, high = parity.probability_range
    if low == high:
        raise CheckFailedError(
            f"The parity check shows nothing: the network gives exactly {low:.6f} for each of the "
            f"{parity.volumes} volumes ({parity.description}). No file was written. Compare it on scans with different "
            "predictions: `parity_data=FOLDER`"
        )


def _describe_low_spread(expected: NDArray[np.float64]) -> str | None:
    """A sentence if probabilities ``(volumes, classes)`` are nearly the same for every volume; else None."""
    spread = probability_spread(expected)
    if spread >= MIN_SPREAD:
        return None
    return (
        f"the network predicts nearly the same for all {len(expected)} volumes: probabilities differ by {spread:.2g}. "
        "Another network may do so too. Compare it on scans with different predictions: `parity_data=FOLDER`"
    )


def _locate_failure(locate_failure: Callable[[], str]) -> str:
    """The sentence; an error of the search must not hide that the parity check failed."""
    try:
        sentence = locate_failure()
    except Exception as error:
        sentence = f"The cause could not be found: {type(error).__name__}: {error}"
    return f" {sentence}" if sentence else ""
