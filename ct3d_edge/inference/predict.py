"""Predict scans, one or a batch; the failure of a scan affects no other scan."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ProviderError, RefusedScanError, ScanError, UnreadableScanError
from ct3d_edge.formatting import plural
from ct3d_edge.inference.prepare import PreparedScan, ScanSource, StatusAndFailure, classify_failure, prepare_source
from ct3d_edge.modelfile.model_file import ModelFile, is_demo_model
from ct3d_edge.preprocessing import ModelInput
from ct3d_edge.quality_control.checker import QualityChecker, input_sha256, reportable_flags
from ct3d_edge.results.record import Prediction, ResultRecord, status_of_flags
from ct3d_edge.scan.gzip_reader import no_cancellation
from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.session.runner import ModelOutputs, Runner

NO_RECORDS: Mapping[str, ResultRecord] = MappingProxyType({})


DEMO_MODEL_FLAG = QCFlag(
    "demonstration_model",
    "warn",
    "This model was trained on synthetic phantoms; its prediction for a patient means nothing.",
)


@dataclass(frozen=True, eq=False)
class ScanResult:
    """A scan's record, the network input of its prediction, and the features for Grad-CAM if there are any."""

    record: ResultRecord
    model_input: ModelInput | None
    features: NDArray[np.float32] | None = None


def find_model_flags(model: ModelFile) -> tuple[QCFlag, ...]:
    """Flags of every prediction of a model."""
    return (DEMO_MODEL_FLAG,) if is_demo_model(model) else ()


def predict_scan(
    scan: ScanSource, runner: Runner, model_flags: tuple[QCFlag, ...] = (), checker: QualityChecker | None = None
) -> ScanResult:
    """Read, preprocess and predict one scan. Errors of the scan are in its record; they are not raised.

    Parameters
    ----------
    model_flags
        Flags of every prediction of this session, first in the record.
    checker
        Checks the scan; the model runs only if it passes.

    Raises
    ------
    ProviderError
        If the session fails, as it would for every scan (a GPU out of memory, say).
    """
    return predict_batch([prepare_source(scan, runner.contract, checker=checker)], runner, model_flags, checker)[0]


def load_known_record(
    scan: ScanSource,
    known_records: Mapping[str, ResultRecord],
    runner: Runner,
    checker: QualityChecker | None = None,
    check_cancelled: Callable[[], None] = no_cancellation,
) -> ResultRecord | None:
    """The record of an earlier run, if scan, model, contract and downgraded checks are unchanged.

    ``check_cancelled`` is called between blocks while the scan is hashed; its exception ends the call.
    """
    if not isinstance(scan, Path) or (record := known_records.get(str(scan))) is None:
        return None
    try:
        content = content_sha256(scan, check_cancelled)
    except ScanError:
        return None
    report = runner.run_report
    key = str(scan), content, report.model_sha256, report.contract_sha256, _downgraded_codes(checker)
    return record if record.key == key else None


def raise_if_failed(record: ResultRecord) -> None:
    """Raise the failure of a record, if it has one.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        With its code and message.
    """
    if record.failure is not None:
        kind: type[ScanError] = RefusedScanError if record.status == "refused" else UnreadableScanError
        raise kind(record.failure.code, record.failure.message)


def flag_duplicate(result: ScanResult, checker: QualityChecker | None) -> ScanResult:
    """The result with the flag ``duplicate`` if an earlier scan had the same network input. Call it in scan order.

    The flag of an earlier run is replaced: it may name a scan that is missing or no longer first.
    """
    record = result.record
    if checker is None or record.input_sha256 is None:
        return result
    duplicates = checker.flag_repeated(record.scan, record.input_sha256)
    others = (flag for flag in record.flags if flag.code != "duplicate")
    return replace(result, record=record.with_flags((*others, *reportable_flags(duplicates))))


def predict_batch(
    scans: Sequence[PreparedScan],
    runner: Runner,
    model_flags: tuple[QCFlag, ...] = (),
    checker: QualityChecker | None = None,
) -> list[ScanResult]:
    """Run the network on the scans that could be prepared, as one batch.

    The inference time of each scan is the wall time of the batch divided by its number of scans.

    Raises
    ------
    ProviderError
        If the session fails, for instance because the batch is too large for its memory.
    """
    start = time.perf_counter()
    volumes = [scan.model_input.volume for scan in scans if scan.model_input]
    found: list[RowOutput] = []
    failure: Exception | None = None
    try:
        found += _split_batch(runner.outputs(np.stack(volumes))) if volumes else ()
    except Exception as error:
        failure = error
    rows = iter(_run_one_by_one(volumes, runner, failure) if failure else found)
    milliseconds = (time.perf_counter() - start) * 1e3 / max(len(volumes), 1)
    return [
        _build_result(scan, next(rows), milliseconds, runner, model_flags, checker)
        if scan.model_input
        else ScanResult(_build_record(scan, runner, checker), None)
        for scan in scans
    ]


RowOutput = ModelOutputs | StatusAndFailure
"""The network's outputs for one scan, without the batch axis, or its failure."""


def _run_one_by_one(volumes: Sequence[NDArray[np.float32]], runner: Runner, error: Exception) -> list[RowOutput]:
    """One row per volume of a batch that failed: each is run alone, so that an unexpected error costs one scan only."""
    if isinstance(error, ProviderError):
        if len(volumes) == 1:
            raise error
        raise ProviderError(
            f"{error} The batch held {plural(len(volumes), 'scan')}; a smaller `batch_size` needs less memory."
        ) from error
    if len(volumes) == 1:
        return [classify_failure(error)]
    rows: list[RowOutput] = []
    for volume in volumes:
        try:
            rows += _split_batch(runner.outputs(volume[None]))
        except Exception as own_error:
            rows += _run_one_by_one([volume], runner, own_error)
    return rows


def _split_batch(outputs: ModelOutputs) -> Iterable[RowOutput]:
    for index, probabilities in enumerate(outputs.probabilities):
        features, pooled = (None if array is None else array[index] for array in (outputs.features, outputs.pooled))
        yield ModelOutputs(probabilities, features, pooled)


def _build_result(
    scan: PreparedScan,
    row: RowOutput,
    milliseconds: float,
    runner: Runner,
    model_flags: tuple[QCFlag, ...],
    checker: QualityChecker | None,
) -> ScanResult:
    """The result of a scan from its row of the network's outputs."""
    flags = (*model_flags, *scan.flags, *_ood_flags(row, checker))
    if not isinstance(row, ModelOutputs):
        return ScanResult(_build_record(replace(scan, failed=row, flags=flags), runner, checker), None)
    timed = replace(scan, timing=replace(scan.timing, infer=milliseconds), flags=flags)
    try:
        prediction = classify(row.probabilities, runner.contract)
    except Exception as error:
        return ScanResult(_build_record(replace(timed, failed=classify_failure(error)), runner, checker), None)
    return ScanResult(_build_record(timed, runner, checker, prediction), scan.model_input, row.features)


def _ood_flags(row: RowOutput, checker: QualityChecker | None) -> tuple[QCFlag, ...]:
    if checker is None or not isinstance(row, ModelOutputs) or row.pooled is None:
        return ()
    return reportable_flags(checker.ood_flags(row.pooled))


def classify(probabilities: NDArray[np.float64], contract: Contract) -> Prediction:
    """The prediction from the probabilities of one scan, ``(classes,)``.

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
        input_sha256=input_sha256(scan.model_input) if prediction and scan.model_input else None,
        allowed=_downgraded_codes(checker),
        precision=report.arithmetic,
    )
