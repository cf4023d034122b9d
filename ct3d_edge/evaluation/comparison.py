"""A model and its reference on the same labelled scans: what they differ in, and whether the model is no worse."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ct3d_edge.errors import CheckFailedError, DatasetError
from ct3d_edge.evaluation.evaluation import Evaluation
from ct3d_edge.evaluation.intervals import RESAMPLES
from ct3d_edge.evaluation.paired_metrics import PairedMetrics, PairedScores, compute_paired_metrics
from ct3d_edge.evaluation.predict import ScanPrediction
from ct3d_edge.modelfile.comparison_evidence import ComparisonEvidence
from ct3d_edge.progress import Progress, no_progress

MARGIN = 0.02
"""By how much the AUC of a model may be lower, unless another margin is stated."""

WRONGLY_RANKED = (2.0, -1.0)
"""Score of a scan of each class that the model has no prediction for: beyond those of all scans of the other class."""


@dataclass(frozen=True)
class ScanPair:
    """A scan that both models predict, and what each does."""

    model: ScanPrediction
    reference: ScanPrediction

    @property
    def differs(self) -> bool:
        """Whether the two decide on different classes."""
        return self.model.prediction != self.reference.prediction


@dataclass(frozen=True)
class UnpairedScan:
    """A scan that not both models predict.

    Parameters
    ----------
    scan
        Path relative to the data folder.
    missing
        Which of them has no prediction: ``"model"``, ``"reference"`` or ``"both"``.
    reason
        Why not.
    """

    scan: str
    missing: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """A model and its reference on the same scans.

    Parameters
    ----------
    model, reference
        The evaluation of each, on all scans that it predicts.
    figures
        What they differ in. A scan that only the reference predicts counts as a wrong prediction of the model; one that
        the reference does not predict is left out.
    pairs, unpaired
        Scans that both predict, and the others.
    margin
        By how much the AUC of the model may be lower.
    invalid_because
        Reasons for which nothing follows from the comparison: one of them was trained or selected on these scans.
    warnings
        Limits of the comparison, besides those of both evaluations.
    """

    model: Evaluation
    reference: Evaluation
    figures: PairedMetrics
    pairs: tuple[ScanPair, ...]
    unpaired: tuple[UnpairedScan, ...]
    margin: float
    invalid_because: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def non_inferior(self) -> bool:
        """Whether the lower ends of both intervals are above minus the margin, on scans that neither has seen."""
        return not self.invalid_because and self.figures.auc_difference.least > -self.margin

    @property
    def differing(self) -> tuple[ScanPair, ...]:
        """Scans on which the two decide differently, the largest difference of probabilities first."""
        differing = [pair for pair in self.pairs if pair.differs]
        return tuple(sorted(differing, key=lambda pair: -abs(pair.model.probability - pair.reference.probability)))

    def require_non_inferior(self) -> None:
        """Raise a `CheckFailedError` with the reason if the model is not shown to be non-inferior."""
        if self.non_inferior:
            return
        found = self.figures.auc_difference
        reason = " ".join(self.invalid_because) or (
            f"its AUC differs by {found.value:+.3f}, and the interval reaches {found.least:+.3f}. More test scans "
            "make the interval narrower; if the model is worse, train it longer or make it larger."
        )
        raise CheckFailedError(
            f"{self.model.model} is not shown to be non-inferior to {self.reference.model} at a margin of "
            f"{self.margin:g}: {reason}"
        )

    def evidence(self, *, student: bool = False, data: str | None = None) -> ComparisonEvidence:
        """What goes with the model.

        Parameters
        ----------
        student
            Whether it was trained to predict what the reference predicts.
        data
            What the scans are, in the plural; if None, ``"phantoms"`` where all files are named as those of ``data
            synth``, else ``"scans"``.

        Raises
        ------
        CheckFailedError
            If nothing follows from the comparison.
        """
        if self.invalid_because:
            raise CheckFailedError(f"This comparison is no evidence: {' '.join(self.invalid_because)}")
        scans = [*(pair.model for pair in self.pairs), *_predicted_by_reference_only(self.model, self.reference)]
        hashes = "".join(f"{scan.sha256}\n" for scan in sorted(scans, key=lambda scan: scan.sha256))
        figures, difference = self.figures, self.figures.auc_difference
        return ComparisonEvidence(
            model_sha256=self.model.model_sha256,
            reference_sha256=self.reference.model_sha256,
            student=student,
            data=data or _name_data(scans),
            data_sha256=hashlib.sha256(hashes.encode()).hexdigest(),
            scans=figures.scans,
            unpredicted=len(scans) - len(self.pairs),
            auc=figures.auc,
            reference_auc=figures.reference_auc,
            difference=difference.value,
            low=difference.low,
            high=difference.high,
            bootstrap_low=difference.bootstrap_low,
            bootstrap_high=difference.bootstrap_high,
            specificity=figures.specificity,
            sensitivity=figures.sensitivity.value,
            reference_sensitivity=figures.reference_sensitivity.value,
            margin=self.margin,
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, documented in docs/evaluation.md: that of the model's evaluation, and ``comparison``."""
        reference = self.reference.to_dict()
        return {
            **self.model.to_dict(),
            "comparison": {
                "warnings": list(self.warnings),
                "reference": {name: reference[name] for name in ("model", "figures", "warnings")},
                "margin": self.margin,
                "non_inferior": self.non_inferior,
                "invalid_because": list(self.invalid_because),
                **asdict(self.figures),
                "agreement": {"value": self.figures.agreement.value, **asdict(self.figures.agreement)},
                "pairs": [self._pair_data(pair) for pair in self.pairs],
                "unpaired": [asdict(scan) for scan in self.unpaired],
            },
        }

    def _pair_data(self, pair: ScanPair) -> dict[str, Any]:
        labels = self.reference.contract.labels
        return {
            "scan": pair.model.scan,
            "reference_probability": pair.reference.probability,
            "reference_prediction": labels[pair.reference.prediction],
            "differs": pair.differs,
        }


def compare_evaluations(
    model: Evaluation,
    reference: Evaluation,
    margin: float = MARGIN,
    invalid_because: tuple[str, ...] = (),
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Comparison:
    """Compare two evaluations of the same scans, which are paired by their content.

    Parameters are those of `Comparison` and `bootstrap_scans`.

    Raises
    ------
    DatasetError
        If both predict no scan, or scans of one class only.
    """
    known = {scan.sha256: scan for scan in reference.scans}
    pairs = tuple(ScanPair(scan, known[scan.sha256]) for scan in model.scans if scan.sha256 in known)
    alone = _predicted_by_reference_only(model, reference)
    scores = _pair_scores(pairs, alone)
    _require_both_classes(pairs, scores)
    decisions = np.array([(pair.model.prediction, pair.reference.prediction) for pair in pairs], np.int64).T
    figures = compute_paired_metrics(scores, decisions, resamples=resamples, seed=seed, progress=progress)
    return Comparison(
        model=model,
        reference=reference,
        figures=figures,
        pairs=pairs,
        unpaired=tuple(_find_unpaired(model, reference)),
        margin=margin,
        invalid_because=invalid_because,
        warnings=tuple(_find_limits(model, reference, figures, len(alone))),
    )


def _pair_scores(pairs: tuple[ScanPair, ...], alone: tuple[ScanPrediction, ...]) -> PairedScores:
    """Scores of all scans that the reference predicts."""
    reference = [*(pair.reference for pair in pairs), *alone]
    model = [*(pair.model.probability for pair in pairs), *(WRONGLY_RANKED[scan.truth] for scan in alone)]
    negatives = [scan for scan in reference if scan.truth == 0]
    return PairedScores(
        np.array([scan.truth for scan in reference], np.int64),
        np.array([model, [scan.probability for scan in reference]], np.float64),
        sum(scan.correct for scan in negatives) / max(1, len(negatives)),
    )


def _name_data(scans: Sequence[ScanPrediction]) -> str:
    """What scans are, by the names that `data synth` gives."""
    return "phantoms" if all(PurePosixPath(scan.scan).name.startswith("phantom_") for scan in scans) else "scans"


def _predicted_by_reference_only(model: Evaluation, reference: Evaluation) -> tuple[ScanPrediction, ...]:
    known = {scan.sha256 for scan in model.scans}
    return tuple(scan for scan in reference.scans if scan.sha256 not in known)


def _require_both_classes(pairs: tuple[ScanPair, ...], scores: PairedScores) -> None:
    if not pairs:
        raise DatasetError("There is no scan that both models predict: look at the reasons with `evaluate` of each.")
    if len(np.unique(scores.truth)) < 2:
        raise DatasetError(
            f"All {len(scores.truth)} scans that can be compared are of one class; an AUC needs scans of both."
        )


def _find_unpaired(model: Evaluation, reference: Evaluation) -> Iterator[UnpairedScan]:
    """Scans that not both predict, by path."""
    reasons = [{scan.path: scan.reason for scan in side.left_out} for side in (model, reference)]
    for path in sorted({*reasons[0], *reasons[1]}):
        missing = "both" if all(path in side for side in reasons) else "model" if path in reasons[0] else "reference"
        yield UnpairedScan(path, missing, reasons[0].get(path) or reasons[1][path])


def _find_limits(model: Evaluation, reference: Evaluation, figures: PairedMetrics, alone: int) -> Iterator[str]:
    """Warnings about a comparison, the most serious first."""
    if model.model_sha256 == reference.model_sha256:
        yield "The model and its reference are the same file."
    yield from (f"Reference: {warning}" for warning in reference.warnings if warning not in model.warnings)
    if alone:
        yield (
            f"The model has no prediction for {alone} of the {sum(figures.scans)} scans that the reference predicts: "
            "they count as wrong."
        )
    if figures.auc == figures.reference_auc == 1:
        yield (
            "Both models separate the classes without error here: the interval of the AUC difference is that of one "
            "AUC of 1 on as many scans (Newcombe 2006)."
        )
    elif figures.auc_difference.standard_error == 0:
        yield "Both models rank these scans alike: the interval of the AUC difference has no width."
