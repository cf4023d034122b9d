"""Predictions for the scans of a test set, beside their true class."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import DatasetError, RefusedScanError, ScanError, UnreadableScanError
from ct3d_edge.evaluation.test_set import TestSet
from ct3d_edge.inference.predict import classify
from ct3d_edge.inference.prepare import PreparedScan, prepare_scan
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.splits.folder import refuse_unusable_scans
from ct3d_edge.splits.split import ExcludedScan, SplitEntry

Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True)
class ScanPrediction:
    """The prediction for one scan.

    Parameters
    ----------
    scan
        Path relative to the data folder.
    sha256
        Of its content.
    truth, prediction
        Class indices.
    probability
        Of the second class.
    flags
        Its quality flags.
    """

    scan: str
    sha256: str
    truth: int
    prediction: int
    probability: float
    flags: tuple[QCFlag, ...] = ()

    @property
    def correct(self) -> bool:
        """Whether the prediction is the truth."""
        return self.prediction == self.truth


@dataclass(frozen=True)
class Predictions:
    """The predictions for a test set, and the scans without one."""

    scans: tuple[ScanPrediction, ...]
    left_out: tuple[ExcludedScan, ...]

    @property
    def truth(self) -> NDArray[np.int64]:
        """``(N,)`` class indices."""
        return np.array([prediction.truth for prediction in self.scans], np.int64)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """``(N,)`` class indices that the model decided on."""
        return np.array([prediction.prediction for prediction in self.scans], np.int64)

    @property
    def scores(self) -> NDArray[np.float64]:
        """``(N,)`` probability of the second class."""
        return np.array([prediction.probability for prediction in self.scans], np.float64)

    @property
    def flags(self) -> Mapping[str, int]:
        """How many scans have each quality flag above severity "ok", by its code."""
        return Counter(
            code
            for prediction in self.scans
            for code in sorted({flag.code for flag in prediction.flags if flag.severity != "ok"})
        )


def predict_test_set(
    test_set: TestSet,
    predict: Predict,
    checker: QualityChecker,
    *,
    skip_bad: bool = False,
    progress: Progress = no_progress,
) -> Predictions:
    """Predict every scan, through the preprocessing that training and inference use.

    Raises
    ------
    DatasetError
        Naming all scans that cannot be read or predicted, a NaN among the model's outputs included; with
        ``skip_bad`` only if a class is left without a scan.
    """
    predictions: list[ScanPrediction] = []
    unusable: list[ExcludedScan] = []
    for done, entry in enumerate(test_set.entries, start=1):
        try:
            predictions.append(_predict_entry(test_set, entry, predict, checker))
        except ScanError as error:
            unusable.append(ExcludedScan(entry.path, error.code, str(error), entry.sha256))
        progress(done, len(test_set.entries), "Predicting scans")
    if not skip_bad:
        refuse_unusable_scans(tuple(unusable), len(test_set.entries))
    if len({prediction.truth for prediction in predictions}) < len(test_set.split.classes):
        reasons = "\n".join(f"  {scan.path}: {scan.reason}" for scan in unusable)
        raise DatasetError(f"Without the scans that cannot be used a class has none left:\n{reasons}")
    return Predictions(tuple(predictions), (*test_set.left_out, *unusable))


def _predict_entry(test_set: TestSet, entry: SplitEntry, predict: Predict, checker: QualityChecker) -> ScanPrediction:
    """One scan on the path that ``infer`` takes: the same preparation, the same checks, the same classes."""
    prepared = prepare_scan(test_set.folder / entry.path, checker.contract, checker=checker)
    if prepared.model_input is None:
        raise _as_error(prepared)
    prediction = classify(predict(prepared.model_input.volume), checker.contract)
    return ScanPrediction(
        scan=entry.path,
        sha256=entry.sha256,
        truth=test_set.split.label_of(entry),
        prediction=checker.contract.labels.index(prediction.label),
        probability=dict(prediction.probability)[checker.contract.labels[1]],
        flags=prepared.flags,
    )


def _as_error(scan: PreparedScan) -> ScanError:
    assert scan.failed is not None  # noqa: S101 - for mypy: exactly one of both is set
    status, failure = scan.failed
    if failure.code == "internal":  # a fault of ct3d-edge is no property of a scan that could be left out
        raise RuntimeError(failure.message)
    kind = RefusedScanError if status == "refused" else UnreadableScanError
    return kind(failure.code, failure.message)
