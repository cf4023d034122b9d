"""Scans through preprocessing and a model, with the class that they are known to have."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError, ScanError
from ct3d_edge.evaluation.classifier import OnProgress, ScanPredicted, ignore_event
from ct3d_edge.evaluation.test_set import TestSet
from ct3d_edge.inference.predict import classify
from ct3d_edge.preprocess import preprocess
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.qc_flag import QCFlag, raise_if_refused
from ct3d_edge.splits.folder import refuse_unusable_scans
from ct3d_edge.splits.split import ExcludedScan, SplitEntry

Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True)
class ScanPrediction:
    """What the model said of one scan.

    Parameters
    ----------
    scan
        Path relative to the data folder.
    truth, answer
        Class indices.
    probability
        Of the second class.
    flags
        What was noticed about the scan.
    """

    scan: str
    truth: int
    prediction: int
    probability: float
    flags: tuple[QCFlag, ...] = ()

    @property
    def correct(self) -> bool:
        """Whether the answer is the truth."""
        return self.prediction == self.truth


@dataclass(frozen=True)
class Predictions:
    """All scans of a material that gave a result, and those that did not."""

    scans: tuple[ScanPrediction, ...]
    left_out: tuple[ExcludedScan, ...]

    @property
    def truth(self) -> NDArray[np.int64]:
        """``(N,)`` class indices."""
        return np.array([verdict.truth for verdict in self.scans], np.int64)

    @property
    def answers(self) -> NDArray[np.int64]:
        """``(N,)`` class indices that the model decided on."""
        return np.array([verdict.prediction for verdict in self.scans], np.int64)

    @property
    def scores(self) -> NDArray[np.float64]:
        """``(N,)`` probability of the second class."""
        return np.array([verdict.probability for verdict in self.scans], np.float64)

    @property
    def flags(self) -> Mapping[str, int]:
        """How many scans have each finding that is more than for the record, by its code."""
        return Counter(
            code
            for verdict in self.scans
            for code in sorted({flag.code for flag in verdict.flags if flag.severity != "ok"})
        )


def predict_test_set(
    material: TestSet,
    contract: Contract,
    predict: Predict,
    *,
    skip_bad: bool = False,
    on_progress: OnProgress = ignore_event,
) -> Predictions:
    """Let a model answer for every scan, through the preprocessing that training and inference use.

    Raises
    ------
    DatasetError
        Naming all scans that cannot be read or judged, a NaN among the model's answers included; with
        ``skip_bad`` only if a class is left without a scan.
    """
    verdicts: list[ScanPrediction] = []
    unusable: list[ExcludedScan] = []
    for done, entry in enumerate(material.entries, start=1):
        try:
            verdicts.append(_verdict(material, entry, contract, predict))
        except ScanError as error:
            unusable.append(ExcludedScan(entry.path, error.code, str(error), entry.sha256))
        on_progress(ScanPredicted(done, len(material.entries), entry.path))
    if not skip_bad:
        refuse_unusable_scans(tuple(unusable), len(material.entries))
    if len({verdict.truth for verdict in verdicts}) < len(material.split.classes):
        reasons = "\n".join(f"  {scan.path}: {scan.reason}" for scan in unusable)
        raise DatasetError(f"Without the scans that cannot be used a class has none left:\n{reasons}")
    return Predictions(tuple(verdicts), (*material.left_out, *unusable))


def _verdict(material: TestSet, entry: SplitEntry, contract: Contract, predict: Predict) -> ScanPrediction:
    prepared = preprocess(open_scan(material.folder / entry.path), contract)
    raise_if_refused(prepared.flags)
    answer = classify(predict(prepared.volume), contract)
    return ScanPrediction(
        scan=entry.path,
        truth=material.split.label_of(entry),
        prediction=contract.labels.index(answer.label),
        probability=dict(answer.probability)[contract.labels[1]],
        flags=prepared.flags,
    )
