"""Scans through the network, each on its own: one that fails costs no other its result."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ProviderError, RefusedScanError, ScanError
from ct3d_edge.formatting import plural
from ct3d_edge.inference.prepare import PreparedScan, ScanSource, StatusAndFailure, classify_failure, prepare_source
from ct3d_edge.preprocessing import ModelInput
from ct3d_edge.quality_control.checker import QualityChecker, input_sha256, reportable_flags
from ct3d_edge.results.record import Prediction, ResultRecord, status_of_flags
from ct3d_edge.scan.fingerprint import content_sha256
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.session.runner import ModelOutputs, Runner

NO_RECORDS: Mapping[str, ResultRecord] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class ScanResult:
    """A scan's record, the network input it was made from, and the features for Grad-CAM, where there are any."""

    record: ResultRecord
    prepared: ModelInput | None
    features: NDArray[np.float32] | None = None


def predict_scan(
    scan: ScanSource, runner: Runner, notes: tuple[QCFlag, ...] = (), checker: QualityChecker | None = None
) -> ScanResult:
    """Read, preprocess and predict one scan. Never raises for what is wrong with the scan.

    Parameters
    ----------
    notes
        Flags that hold for every prediction of this session; they stand first in the record.
    checker
        Checks the scan; the model is run only on one that passes.

    Raises
    ------
    ProviderError
        What is wrong with the session (a GPU out of memory, say) would be wrong for every scan.
    """
    return predict_batch([prepare_source(scan, runner.contract, checker=checker)], runner, notes, checker)[0]


def load_known_record(
    scan: ScanSource,
    known: Mapping[str, ResultRecord],
    runner: Runner,
    checker: QualityChecker | None = None,
    on_block: Callable[[], None] = no_cancellation,
) -> ResultRecord | None:
    """The record of an earlier run, if scan, model, contract and downgraded checks are still what they were.

    ``on_block`` is called while the scan is read for comparison; what it raises ends that.
    """
    if not isinstance(scan, Path) or (record := known.get(str(scan))) is None:
        return None
    try:
        content = content_sha256(scan, on_block)
    except ScanError:
        return None
    report = runner.run_report
    key = str(scan), content, report.model_sha256, report.contract_sha256, _downgraded_codes(checker)
    return record if record.key == key else None


def flag_duplicate(result: ScanResult, checker: QualityChecker | None) -> ScanResult:
    """The result, flagged if the network was given the same input before; to be called in the order of the scans.

    A record of an earlier run may name a scan that is no longer there, or not first any more.
    """
    record = result.record
    if checker is None or record.input_sha256 is None:
        return result
    repeated = checker.flag_repeated(record.scan, record.input_sha256)
    others = (flag for flag in record.flags if flag.code != "duplicate")
    return replace(result, record=record.with_flags((*others, *reportable_flags(repeated))))


def predict_batch(
    scans: Sequence[PreparedScan],
    runner: Runner,
    notes: tuple[QCFlag, ...] = (),
    checker: QualityChecker | None = None,
) -> list[ScanResult]:
    """Run those of the scans that could be prepared through the network, as one batch.

    Each scan of a batch has the wall time of the batch divided by its scans.

    Raises
    ------
    ProviderError
        If the session fails, the batch being too large for its memory for instance.
    """
    start = time.perf_counter()
    rows = iter(_run_network([scan.prepared.volume for scan in scans if scan.prepared], runner))
    ran = sum(scan.prepared is not None for scan in scans)
    milliseconds = (time.perf_counter() - start) * 1e3 / max(ran, 1)
    return [
        _build_result(scan, next(rows), milliseconds, runner, notes, checker)
        if scan.prepared
        else ScanResult(_build_record(scan, runner, checker), None)
        for scan in scans
    ]


RowOutput = ModelOutputs | StatusAndFailure
"""What the network gave for one scan, without the batch axis, or why there is nothing."""


def _run_network(volumes: Sequence[NDArray[np.float32]], runner: Runner) -> list[RowOutput]:
    """One row a volume. A batch that meets a fault of ct3d-edge is run one by one, so that one scan gets it."""
    try:
        return list(_split_batch(runner.outputs(np.stack(volumes)))) if volumes else []
    except ProviderError as error:
        if len(volumes) == 1:
            raise
        raise ProviderError(
            f"{error} The batch held {plural(len(volumes), 'scan')}; a smaller `batch_size` needs less memory."
        ) from error
    except Exception as error:
        if len(volumes) == 1:
            return [classify_failure(error)]
    return [row for volume in volumes for row in _run_network([volume], runner)]


def _split_batch(outputs: ModelOutputs) -> Iterable[ModelOutputs]:
    for index, probabilities in enumerate(outputs.probabilities):
        features, pooled = (None if array is None else array[index] for array in (outputs.features, outputs.pooled))
        yield ModelOutputs(probabilities, features, pooled)


def _build_result(
    scan: PreparedScan,
    row: RowOutput,
    milliseconds: float,
    runner: Runner,
    notes: tuple[QCFlag, ...],
    checker: QualityChecker | None,
) -> ScanResult:
    """The result of a scan that the network was run on."""
    flags = (*notes, *scan.flags, *_ood_flags(row, checker))
    if not isinstance(row, ModelOutputs):
        return ScanResult(_build_record(replace(scan, failed=row, flags=flags), runner, checker), None)
    timed = replace(scan, timing=replace(scan.timing, infer=milliseconds), flags=flags)
    try:
        prediction = classify(row.probabilities, runner.contract)
    except Exception as error:
        return ScanResult(_build_record(replace(timed, failed=classify_failure(error)), runner, checker), None)
    return ScanResult(_build_record(timed, runner, checker, prediction), scan.prepared, row.features)


def _ood_flags(row: RowOutput, checker: QualityChecker | None) -> tuple[QCFlag, ...]:
    if checker is None or not isinstance(row, ModelOutputs) or row.pooled is None:
        return ()
    return reportable_flags(checker.ood_flags(row.pooled))


def classify(probabilities: NDArray[np.float64], contract: Contract) -> Prediction:
    """Turn the probabilities of one scan, ``(classes,)``, into a prediction.

    Raises
    ------
    RefusedScanError
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


def _downgraded_codes(checker: QualityChecker | None) -> tuple[str, ...]:
    return tuple(sorted(checker.allow)) if checker else ()


def _build_record(
    scan: PreparedScan, runner: Runner, checker: QualityChecker | None, prediction: Prediction | None = None
) -> ResultRecord:
    report = runner.run_report
    status, failure = scan.failed or (status_of_flags(scan.flags), None)
    return ResultRecord(
        scan=scan.scan,
        status=status,
        prediction=prediction,
        failure=failure,
        flags=scan.flags,
        timing=scan.timing,
        model_sha256=report.model_sha256,
        contract_sha256=report.contract_sha256,
        requested=report.requested,
        actual=report.actual,
        nodes=report.nodes,
        scan_sha256=scan.sha256,
        input_sha256=input_sha256(scan.prepared) if prediction and scan.prepared else None,
        allowed=_downgraded_codes(checker),
        precision=report.arithmetic,
    )
