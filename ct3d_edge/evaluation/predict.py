"""Scans through preprocessing and a model, with the class that they are known to have."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError, ScanError
from ct3d_edge.evaluation.classifier import OnProgress, ScanJudged, silent
from ct3d_edge.evaluation.test_set import Material
from ct3d_edge.inference.predict import decide
from ct3d_edge.preprocess import preprocess
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.qc_flag import Finding, require_sound
from ct3d_edge.splits.folder import refuse_unusable
from ct3d_edge.splits.split import Entry, LeftOut

Predict = Callable[[NDArray[np.float32]], NDArray[np.float64]]


@dataclass(frozen=True)
class Verdict:
    """What the model said of one scan.

    Parameters
    ----------
    scan
        Path relative to the data folder.
    truth, answer
        Class indices.
    probability
        Of the second class.
    findings
        What was noticed about the scan.
    """

    scan: str
    truth: int
    answer: int
    probability: float
    findings: tuple[Finding, ...] = ()

    @property
    def correct(self) -> bool:
        """Whether the answer is the truth."""
        return self.answer == self.truth


@dataclass(frozen=True)
class Verdicts:
    """All scans of a material that gave a result, and those that did not."""

    scans: tuple[Verdict, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def truth(self) -> NDArray[np.int64]:
        """``(N,)`` class indices."""
        return np.array([verdict.truth for verdict in self.scans], np.int64)

    @property
    def answers(self) -> NDArray[np.int64]:
        """``(N,)`` class indices that the model decided on."""
        return np.array([verdict.answer for verdict in self.scans], np.int64)

    @property
    def scores(self) -> NDArray[np.float64]:
        """``(N,)`` probability of the second class."""
        return np.array([verdict.probability for verdict in self.scans], np.float64)

    @property
    def findings(self) -> Mapping[str, int]:
        """How many scans have each finding that is more than for the record, by its code."""
        return Counter(
            code
            for verdict in self.scans
            for code in sorted({finding.code for finding in verdict.findings if finding.severity != "ok"})
        )


def judge(
    material: Material,
    contract: Contract,
    predict: Predict,
    *,
    skip_bad: bool = False,
    on_progress: OnProgress = silent,
) -> Verdicts:
    """Let a model answer for every scan, through the preprocessing that training and inference use.

    Raises
    ------
    DatasetError
        Naming all scans that cannot be read or judged, a NaN among the model's answers included; with
        ``skip_bad`` only if a class is left without a scan.
    """
    verdicts: list[Verdict] = []
    unusable: list[LeftOut] = []
    for done, entry in enumerate(material.entries, start=1):
        try:
            verdicts.append(_verdict(material, entry, contract, predict))
        except ScanError as error:
            unusable.append(LeftOut(entry.path, error.code, str(error), entry.sha256))
        on_progress(ScanJudged(done, len(material.entries), entry.path))
    if not skip_bad:
        refuse_unusable(tuple(unusable), len(material.entries))
    if len({verdict.truth for verdict in verdicts}) < len(material.split.classes):
        reasons = "\n".join(f"  {scan.path}: {scan.reason}" for scan in unusable)
        raise DatasetError(f"Without the scans that cannot be used a class has none left:\n{reasons}")
    return Verdicts(tuple(verdicts), (*material.left_out, *unusable))


def _verdict(material: Material, entry: Entry, contract: Contract, predict: Predict) -> Verdict:
    prepared = preprocess(open_scan(material.folder / entry.path), contract)
    require_sound(prepared.findings)
    answer = decide(predict(prepared.volume), contract)
    return Verdict(
        scan=entry.path,
        truth=material.split.label_of(entry),
        answer=contract.labels.index(answer.label),
        probability=dict(answer.probability)[contract.labels[1]],
        findings=prepared.findings,
    )
