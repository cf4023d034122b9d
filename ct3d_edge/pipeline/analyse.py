"""Scans through reading, preprocessing and the network, each on its own: one that fails costs no other its result."""

import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import Ct3dError, RefusedScan, ScanError
from ct3d_edge.preprocess import Prepared, preprocess
from ct3d_edge.results import Answer, Failure, Record, Status, Timing
from ct3d_edge.runtime import Runner
from ct3d_edge.scan import Finding, NiftiScan


@dataclass(frozen=True, eq=False)
class Analysis:
    """A scan's record, and the network input it was made from if there was one."""

    record: Record
    prepared: Prepared | None


def analyse(paths: Iterable[Path], runner: Runner, notes: tuple[Finding, ...] = ()) -> Iterator[Analysis]:
    """Run each scan through an open session, one after the other, in the given order; see `analyse_scan`."""
    for path in paths:
        yield analyse_scan(path, runner, notes)


def analyse_scan(path: Path, runner: Runner, notes: tuple[Finding, ...] = ()) -> Analysis:
    """Read, preprocess and judge one scan. Never raises for what is wrong with the scan.

    ``notes`` are findings that hold for every answer of this session and stand first in its record.

    What is wrong with the session (a GPU out of memory, say) would be wrong for every scan and is raised.

    A fault of ct3d-edge itself becomes a record with the code ``internal`` and a traceback on standard error, so
    that a night's run is not lost to it.
    """
    stopwatch = _Stopwatch()
    scan: NiftiScan | None = None
    findings: tuple[Finding, ...] = ()
    try:
        scan = NiftiScan(path)
        findings = scan.findings
        prepared = preprocess(scan, runner.contract)
        findings = (*notes, *prepared.findings)
        stopwatch.lap("preprocess")
        probabilities = runner.infer(prepared.volume[None])[0]
        stopwatch.lap("infer")
        answer = decide(probabilities, runner.contract)
    except ScanError as error:
        status: Status = "refused" if isinstance(error, RefusedScan) else "error"
        failure = Failure(error.code, str(error))
    except Ct3dError:
        raise
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        status, failure = (
            "error",
            Failure("internal", f"ct3d-edge failed on this scan: {error!r}. Please report it."),
        )
    else:
        status = "warn" if any(finding.severity != "ok" for finding in findings) else "ok"
        return Analysis(_record(path, runner, status, answer, None, findings, stopwatch.timing(scan)), prepared)
    return Analysis(_record(path, runner, status, None, failure, findings, stopwatch.timing(scan)), None)


def decide(probabilities: NDArray[np.float64], contract: Contract) -> Answer:
    """Turn one row of probabilities into an answer.

    Raises
    ------
    RefusedScan
        ``non_finite_output`` if the network gave NaN or infinity.
    """
    if not np.isfinite(probabilities).all():
        raise RefusedScan("non_finite_output", "The network gave NaN or infinity for this scan.")
    values = [float(value) for value in probabilities]
    return Answer(
        label=contract.labels[contract.winner(values)],
        probability=tuple(zip(contract.labels, values, strict=True)),
        threshold=contract.threshold if len(values) == 2 else None,
    )


class _Stopwatch:
    """Wall time of stages that follow each other, in ms."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self._laps[stage] = (now - self._last) * 1e3
        self._last = now

    def timing(self, scan: NiftiScan | None) -> Timing:
        """All stages; a scan is read while it is preprocessed, and knows how much of that time was reading."""
        if scan is None:
            return Timing(**self._laps)
        preprocessing = self._laps.get("preprocess")
        own = None if preprocessing is None else preprocessing - scan.reading_ms
        return Timing(read=scan.reading_ms, preprocess=own, infer=self._laps.get("infer"))


def _record(
    path: Path,
    runner: Runner,
    status: Status,
    answer: Answer | None,
    failure: Failure | None,
    findings: tuple[Finding, ...],
    timing: Timing,
) -> Record:
    receipt = runner.receipt
    return Record(
        scan=str(path),
        status=status,
        answer=answer,
        failure=failure,
        findings=findings,
        timing=timing,
        model_sha256=receipt.model_sha256,
        contract_sha256=receipt.contract_sha256,
        requested=receipt.requested,
        actual=receipt.actual,
        nodes=receipt.nodes,
    )
