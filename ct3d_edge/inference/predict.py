"""Scans through reading, preprocessing and the network, each on its own: one that fails costs no other its result."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import Ct3dError, ProviderError, RefusedScan, ScanError
from ct3d_edge.formatting import plural
from ct3d_edge.inference.prepare import Failed, Reading, Source, explained, read_source
from ct3d_edge.preprocess import Prepared
from ct3d_edge.quality_control.checker import Inspector, input_sha256, remarks
from ct3d_edge.results.record import Answer, Record, answered_status
from ct3d_edge.scan.fingerprint import content_sha256
from ct3d_edge.scan.gzip_reader import go_on
from ct3d_edge.scan.qc_flag import Finding
from ct3d_edge.session.runner import Outputs, Runner


@dataclass(frozen=True, eq=False)
class Analysis:
    """A scan's record, the network input it was made from, and what explains it, where there are any."""

    record: Record
    prepared: Prepared | None
    features: NDArray[np.float32] | None = None


NOTHING_KNOWN: Mapping[str, Record] = MappingProxyType({})


def analyse(
    paths: Iterable[Source],
    runner: Runner,
    notes: tuple[Finding, ...] = (),
    known: Mapping[str, Record] = NOTHING_KNOWN,
    inspector: Inspector | None = None,
) -> Iterator[Analysis]:
    """Run each scan through an open session, one after the other, in the given order; see `analyse_scan`.

    Scans whose record is ``known`` and still holds get that one; see `recall`.
    """
    for path in paths:
        record = recall(path, known, runner, inspector)
        analysis = Analysis(record, None) if record else analyse_scan(path, runner, notes, inspector)
        yield compared(analysis, inspector)


def analyse_scan(
    path: Source, runner: Runner, notes: tuple[Finding, ...] = (), inspector: Inspector | None = None
) -> Analysis:
    """Read, preprocess and judge one scan. Never raises for what is wrong with the scan.

    ``notes`` are findings that hold for every answer of this session and stand first in its record. An ``inspector``
    adds what a passport finds, and has the model judge only scans that are sound.

    What is wrong with the session (a GPU out of memory, say) would be wrong for every scan and is raised.

    A fault of ct3d-edge itself becomes a record with the code ``internal`` and a traceback on standard error, so
    that a night's run is not lost to it.
    """
    return judge([read_source(path, runner.contract, inspector=inspector)], runner, notes, inspector)[0]


def recall(
    path: Source,
    known: Mapping[str, Record],
    runner: Runner,
    inspector: Inspector | None = None,
    on_block: Callable[[], None] = go_on,
) -> Record | None:
    """The record of an earlier run, if scan, model, contract and what is allowed are still what they were.

    ``on_block`` is called while the scan is read for comparison; what it raises ends that.
    """
    if not isinstance(path, Path) or (record := known.get(str(path))) is None:
        return None
    try:
        content = content_sha256(path, on_block)
    except ScanError:
        return None
    receipt = runner.receipt
    key = str(path), content, receipt.model_sha256, receipt.contract_sha256, _allowed(inspector)
    return record if record.key == key else None


def compared(analysis: Analysis, inspector: Inspector | None) -> Analysis:
    """The analysis, which says so if the network was given the same before; to be called in the scans' order.

    A record of an earlier run may speak of a scan that is no longer there, or not first any more.
    """
    record = analysis.record
    if inspector is None or record.input_sha256 is None:
        return analysis
    found = inspector.repeated(record.scan, record.input_sha256)
    others = (finding for finding in record.findings if finding.code != "duplicate")
    return replace(analysis, record=record.with_findings((*others, *remarks(found))))


def _allowed(inspector: Inspector | None) -> tuple[str, ...]:
    return tuple(sorted(inspector.allow)) if inspector else ()


def judge(
    readings: Sequence[Reading],
    runner: Runner,
    notes: tuple[Finding, ...] = (),
    inspector: Inspector | None = None,
) -> list[Analysis]:
    """Run those of the scans that could be prepared through the session, as one batch.

    Each row of a batch has the wall time of the batch divided by its rows.

    Raises
    ------
    ProviderError
        If the session fails, the batch being too large for its memory for instance.
    """
    prepared = [reading.prepared.volume for reading in readings if reading.prepared]
    rows, taken = _infer(prepared, runner)
    analyses = []
    for reading in readings:
        row = next(rows) if reading.prepared else None
        analysis = _analysis(reading, row, taken, runner, notes, inspector)
        analyses.append(replace(analysis, record=replace(analysis.record, allowed=_allowed(inspector))))
    return analyses


Row = Outputs | Failed
"""What the network gave for one scan, without the batch axis, or why there is nothing."""


def _infer(volumes: list[NDArray[np.float32]], runner: Runner) -> tuple[Iterator[Row], float]:
    """One row a volume, and the wall time of each in ms."""
    start = time.perf_counter()
    rows = _infer_batch(volumes, runner) if len(volumes) > 1 else None
    if rows is None:
        rows = [_infer_one(volume, runner) for volume in volumes]
    return iter(rows), (time.perf_counter() - start) * 1e3 / max(len(volumes), 1)


def _infer_batch(volumes: list[NDArray[np.float32]], runner: Runner) -> list[Row] | None:
    """None after a fault of ct3d-edge: run one by one, it is met again and pinned on its scan."""
    try:
        return _rows(runner.outputs(np.stack(volumes)))
    except ProviderError as error:
        raise ProviderError(
            f"{error} The batch held {plural(len(volumes), 'scan')}; a smaller `batch_size` needs less memory."
        ) from error
    except Ct3dError:
        raise
    except Exception:
        return None


def _infer_one(volume: NDArray[np.float32], runner: Runner) -> Row:
    rows: list[Row] = []
    failed = explained(lambda: rows.extend(_rows(runner.outputs(volume[None]))))
    return failed or rows[0]


def _rows(given: Outputs) -> list[Row]:
    behind = (repeat(None) if rows is None else rows for rows in given[1:])
    return [Outputs(*row) for row in zip(given.probabilities, *behind, strict=False)]


def _analysis(
    reading: Reading,
    row: Row | None,
    taken: float,
    runner: Runner,
    notes: tuple[Finding, ...],
    inspector: Inspector | None,
) -> Analysis:
    """What reading and the network said, put together."""
    if row is None:
        return Analysis(_record(reading, runner), None)
    findings = (*notes, *reading.findings, *_unlike(row, inspector))
    if not isinstance(row, Outputs):
        return Analysis(_record(replace(reading, failed=row, findings=findings), runner), None)
    timed = replace(reading, timing=replace(reading.timing, infer=taken), findings=findings)
    answers: list[Answer] = []
    failed = explained(lambda: answers.append(decide(row.probabilities, runner.contract)))
    if failed:
        return Analysis(_record(replace(timed, failed=failed), runner), None)
    return Analysis(_record(timed, runner, answers[0]), reading.prepared, row.features)


def _unlike(row: Row, inspector: Inspector | None) -> tuple[Finding, ...]:
    if inspector is None or not isinstance(row, Outputs) or row.pooled is None:
        return ()
    return remarks(inspector.resemblance(row.pooled))


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


def _record(reading: Reading, runner: Runner, answer: Answer | None = None) -> Record:
    receipt = runner.receipt
    status, failure = reading.failed or (answered_status(reading.findings), None)
    return Record(
        scan=reading.scan,
        status=status,
        answer=answer,
        failure=failure,
        findings=reading.findings,
        timing=reading.timing,
        model_sha256=receipt.model_sha256,
        contract_sha256=receipt.contract_sha256,
        requested=receipt.requested,
        actual=receipt.actual,
        nodes=receipt.nodes,
        scan_sha256=reading.sha256,
        input_sha256=input_sha256(reading.prepared) if answer and reading.prepared else None,
    )
