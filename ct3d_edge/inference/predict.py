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
from ct3d_edge.errors import Ct3dError, ProviderError, RefusedScanError, ScanError
from ct3d_edge.formatting import plural
from ct3d_edge.inference.prepare import Failed, PreparedScan, Source, prepare_source, run_guarded
from ct3d_edge.preprocess import ModelInput
from ct3d_edge.quality_control.checker import QualityChecker, input_sha256, reportable_flags
from ct3d_edge.results.record import Prediction, ResultRecord, status_of_flags
from ct3d_edge.scan.fingerprint import content_sha256
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.session.runner import ModelOutputs, Runner


@dataclass(frozen=True, eq=False)
class ScanResult:
    """A scan's record, the network input it was made from, and what explains it, where there are any."""

    record: ResultRecord
    prepared: ModelInput | None
    features: NDArray[np.float32] | None = None


NOTHING_KNOWN: Mapping[str, ResultRecord] = MappingProxyType({})


def predict_in_turn(
    paths: Iterable[Source],
    runner: Runner,
    notes: tuple[QCFlag, ...] = (),
    known: Mapping[str, ResultRecord] = NOTHING_KNOWN,
    checker: QualityChecker | None = None,
) -> Iterator[ScanResult]:
    """Run each scan through an open session, one after the other, in the given order; see `predict_scan`.

    Scans whose record is ``known`` and still holds get that one; see `load_known_record`.
    """
    for path in paths:
        record = load_known_record(path, known, runner, checker)
        analysis = ScanResult(record, None) if record else predict_scan(path, runner, notes, checker)
        yield flag_duplicate(analysis, checker)


def predict_scan(
    path: Source, runner: Runner, notes: tuple[QCFlag, ...] = (), checker: QualityChecker | None = None
) -> ScanResult:
    """Read, preprocess and judge one scan. Never raises for what is wrong with the scan.

    ``notes`` are findings that hold for every answer of this session and stand first in its record. An ``checker``
    adds what a passport finds, and has the model judge only scans that are sound.

    What is wrong with the session (a GPU out of memory, say) would be wrong for every scan and is raised.

    A fault of ct3d-edge itself becomes a record with the code ``internal`` and a traceback on standard error, so
    that a night's run is not lost to it.
    """
    return predict_batch([prepare_source(path, runner.contract, checker=checker)], runner, notes, checker)[0]


def load_known_record(
    path: Source,
    known: Mapping[str, ResultRecord],
    runner: Runner,
    checker: QualityChecker | None = None,
    on_block: Callable[[], None] = no_cancellation,
) -> ResultRecord | None:
    """The record of an earlier run, if scan, model, contract and what is allowed are still what they were.

    ``on_block`` is called while the scan is read for comparison; what it raises ends that.
    """
    if not isinstance(path, Path) or (record := known.get(str(path))) is None:
        return None
    try:
        content = content_sha256(path, on_block)
    except ScanError:
        return None
    run_report = runner.run_report
    key = str(path), content, run_report.model_sha256, run_report.contract_sha256, _allowed(checker)
    return record if record.key == key else None


def flag_duplicate(analysis: ScanResult, checker: QualityChecker | None) -> ScanResult:
    """The analysis, which says so if the network was given the same before; to be called in the scans' order.

    A record of an earlier run may speak of a scan that is no longer there, or not first any more.
    """
    record = analysis.record
    if checker is None or record.input_sha256 is None:
        return analysis
    found = checker.flag_repeated(record.scan, record.input_sha256)
    others = (flag for flag in record.flags if flag.code != "duplicate")
    return replace(analysis, record=record.with_flags((*others, *reportable_flags(found))))


def _allowed(checker: QualityChecker | None) -> tuple[str, ...]:
    return tuple(sorted(checker.allow)) if checker else ()


def predict_batch(
    readings: Sequence[PreparedScan],
    runner: Runner,
    notes: tuple[QCFlag, ...] = (),
    checker: QualityChecker | None = None,
) -> list[ScanResult]:
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
        analysis = _analysis(reading, row, taken, runner, notes, checker)
        analyses.append(replace(analysis, record=replace(analysis.record, allowed=_allowed(checker))))
    return analyses


Row = ModelOutputs | Failed
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
    failed = run_guarded(lambda: rows.extend(_rows(runner.outputs(volume[None]))))
    return failed or rows[0]


def _rows(given: ModelOutputs) -> list[Row]:
    behind = (repeat(None) if rows is None else rows for rows in given[1:])
    return [ModelOutputs(*row) for row in zip(given.probabilities, *behind, strict=False)]


def _analysis(
    reading: PreparedScan,
    row: Row | None,
    taken: float,
    runner: Runner,
    notes: tuple[QCFlag, ...],
    checker: QualityChecker | None,
) -> ScanResult:
    """What reading and the network said, put together."""
    if row is None:
        return ScanResult(_record(reading, runner), None)
    flags = (*notes, *reading.flags, *_unlike(row, checker))
    if not isinstance(row, ModelOutputs):
        return ScanResult(_record(replace(reading, failed=row, flags=flags), runner), None)
    timed = replace(reading, timing=replace(reading.timing, infer=taken), flags=flags)
    answers: list[Prediction] = []
    failed = run_guarded(lambda: answers.append(classify(row.probabilities, runner.contract)))
    if failed:
        return ScanResult(_record(replace(timed, failed=failed), runner), None)
    return ScanResult(_record(timed, runner, answers[0]), reading.prepared, row.features)


def _unlike(row: Row, checker: QualityChecker | None) -> tuple[QCFlag, ...]:
    if checker is None or not isinstance(row, ModelOutputs) or row.pooled is None:
        return ()
    return reportable_flags(checker.ood_flags(row.pooled))


def classify(probabilities: NDArray[np.float64], contract: Contract) -> Prediction:
    """Turn one row of probabilities into an answer.

    Raises
    ------
    RefusedScan
        ``non_finite_output`` if the network gave NaN or infinity.
    """
    if not np.isfinite(probabilities).all():
        raise RefusedScanError("non_finite_output", "The network gave NaN or infinity for this scan.")
    values = [float(value) for value in probabilities]
    return Prediction(
        label=contract.labels[contract.predicted_index(values)],
        probability=tuple(zip(contract.labels, values, strict=True)),
        threshold=contract.threshold if len(values) == 2 else None,
    )


def _record(reading: PreparedScan, runner: Runner, answer: Prediction | None = None) -> ResultRecord:
    run_report = runner.run_report
    status, failure = reading.failed or (status_of_flags(reading.flags), None)
    return ResultRecord(
        scan=reading.scan,
        status=status,
        prediction=answer,
        failure=failure,
        flags=reading.flags,
        timing=reading.timing,
        model_sha256=run_report.model_sha256,
        contract_sha256=run_report.contract_sha256,
        requested=run_report.requested,
        actual=run_report.actual,
        nodes=run_report.nodes,
        scan_sha256=reading.sha256,
        input_sha256=input_sha256(reading.prepared) if answer and reading.prepared else None,
    )
