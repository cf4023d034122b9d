"""Temperature and threshold of a training run, fitted on its validation scans and written into its contract."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError, ScanError, UsageError
from ct3d_edge.evaluation.classifier import (
    RUN_CONTRACT,
    RUN_MODEL,
    RUN_SPLIT,
    Classifier,
    FeatureExtractor,
    open_keras_classifier,
    require_two_classes,
    run_of,
)
from ct3d_edge.evaluation.evaluation import NEEDED
from ct3d_edge.evaluation.intervals import Proportion, proportion
from ct3d_edge.evaluation.metrics import calibration_error, confusion, log_loss
from ct3d_edge.evaluation.predict import predict_test_set
from ct3d_edge.evaluation.test_set import TestSet, choose_test_set, class_mapping, find_test_set, hash_test_set
from ct3d_edge.evaluation.warnings import few_scans_warning, narrow_range_warning
from ct3d_edge.extras import require_extra
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.quality_control.check_registry import DOWNGRADABLE
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.quality_control.reference_stats import with_training_stats
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.splits.prepared_cache import map_input, prepare_cache
from ct3d_edge.splits.split_file import read_split
from ct3d_edge.system.atomic_write import atomic_file, require_writable
from ct3d_edge.temperature_scaling import (
    TEMPERATURE_SEARCH_RANGE,
    ThresholdRule,
    apply_temperature_to_scores,
    check_temperature,
    fit_operating_point,
)

NEAR = 1.01
"""Within this factor of an end of the search, its result is that end."""


@dataclass(frozen=True)
class OperatingPoint:
    """Metrics of a contract's temperature and threshold on the validation scans."""

    temperature: float
    threshold: float
    log_loss: float
    ece: float
    sensitivity: Proportion
    specificity: Proportion


@dataclass(frozen=True)
class CalibrationResult:
    """A calibrated run.

    Parameters
    ----------
    contract_file
        Rewritten.
    split_file, scans
        Whose validation subset was used, and how many scans of each class it gave.
    rule
        How the threshold was chosen.
    before, after
        On those very scans, so that ``after`` is optimistic.
    warnings
        Limits of the result.
    left_out
        Paths and reasons of scans that were not used.
    reference_stats
        Sentences on the statistics of the training scans; none if the contract has them already.
    """

    contract_file: Path
    split_file: Path
    scans: tuple[tuple[str, int], ...]
    rule: ThresholdRule
    before: OperatingPoint
    after: OperatingPoint
    warnings: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    reference_stats: tuple[str, ...] = ()


def calibrate_run(
    run: Path,
    folder: Path,
    *,
    split: Path | None = None,
    rule: ThresholdRule | None = None,
    skip_bad: bool = False,
    cache: Path | None = None,
    anew: bool = False,
    progress: Progress = no_progress,
) -> CalibrationResult:
    """Fit temperature, then threshold, on the validation subset, and rewrite the run's contract.

    A contract without statistics of the training scans (their geometry and features) gets them as well.

    Parameters
    ----------
    run
        Folder of a training run.
    folder
        The folder of the split.
    split
        Split file; the run's own if None.
    rule
        For the threshold; Youden's if None.
    skip_bad, progress
        As for `evaluate`.
    cache
        Prepared training scans, as for `ct3d_edge.training.train`; those that it lacks are put there. None prepares
        each in memory.
    anew
        Compute the statistics of the training scans even if the contract has them.

    Raises
    ------
    UsageError
        ``run`` is no training run, or the arguments do not name the scans.
    DatasetError
        As for `evaluate`; or scans of the subset are training scans; or no threshold separates the classes.
    ModelError, MissingExtraError
        As for `evaluate`.
    """
    require_extra("evaluate", NEEDED)
    run = _require_run(run)
    split_file = _require_split(run, split)
    require_writable(run / RUN_CONTRACT)
    choice = choose_test_set(folder, split_file, "validation")
    model = open_keras_classifier(run, temperature=1.0)
    require_two_classes(model)
    former = Contract.from_json((run / RUN_CONTRACT).read_text("utf-8"))
    validation = find_test_set(choice, skip_bad=skip_bad, progress=progress)
    class_mapping(validation, model.contract)
    _refuse_training_scans(validation, run)
    extractor = FeatureExtractor(model)
    checker = QualityChecker(model.contract, DOWNGRADABLE)  # the run was trained on such scans, whatever they are
    predictions = predict_test_set(validation, extractor.predict, checker, skip_bad=skip_bad, progress=progress)
    scores, truth, rule = predictions.scores, predictions.truth, rule or ThresholdRule()
    fitted = fit_operating_point(former, scores, truth, rule)
    reference_stats: tuple[str, ...] = ()
    if anew or former.training_range is None or former.feature_statistics is None:
        own = run / RUN_SPLIT if (run / RUN_SPLIT).is_file() else split_file
        try:
            train = find_test_set(choose_test_set(folder, own, "train"), progress=progress)
            fitted, reference_stats = _add_reference_stats(fitted, model, train, extractor.features, cache, progress)
        except DatasetError as error:  # the training scans may be gone by now
            reference_stats = (f"no statistics of the training scans: {error}",)
    with atomic_file(run / RUN_CONTRACT) as stream:
        stream.write(fitted.to_json().encode())
    return CalibrationResult(
        contract_file=run / RUN_CONTRACT,
        split_file=split_file,
        scans=tuple((label, int((truth == n).sum())) for n, label in enumerate(fitted.labels)),
        rule=rule,
        before=operating_point(former, scores, truth),
        after=operating_point(fitted, scores, truth),
        warnings=_describe_limits(fitted, scores, truth),
        left_out=tuple((scan.path, scan.reason) for scan in predictions.left_out),
        reference_stats=reference_stats,
    )


def _describe_limits(contract: Contract, scores: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[str, ...]:
    """Warnings about the scores, the number of scans and the fitted temperature."""
    return (
        *narrow_range_warning(scores, contract),
        *few_scans_warning(truth, contract),
        *check_temperature(contract.temperature, len(truth)),
        *_temperature_limits(contract.temperature),
    )


def operating_point(contract: Contract, scores: NDArray[np.float64], truth: NDArray[np.int64]) -> OperatingPoint:
    """Metrics of a contract's temperature and threshold on scores ``(N,)`` under temperature 1."""
    tempered = apply_temperature_to_scores(scores, contract.temperature)
    counts = confusion(truth, (tempered >= contract.threshold).astype(np.int64))
    return OperatingPoint(
        temperature=contract.temperature,
        threshold=contract.threshold,
        log_loss=log_loss(truth, tempered),
        ece=calibration_error(truth, tempered),
        sensitivity=proportion(counts.true_positive, counts.true_positive + counts.false_negative),
        specificity=proportion(counts.true_negative, counts.true_negative + counts.false_positive),
    )


def _require_run(path: Path) -> Path:
    if path.suffix.lower() == ".onnx":
        raise UsageError(
            f"{path} is an exported file; its parity check belongs to its contract. Calibrate the training run, then "
            "export it again: ct3d-edge fit-temperature --model RUN DIR, ct3d-edge export --model RUN --out MODEL.onnx"
        )
    run = run_of(path)
    if run is None or not (run / RUN_CONTRACT).is_file():
        raise UsageError(f"{path} is no training run: a folder with {RUN_MODEL} and {RUN_CONTRACT} is needed.")
    return run


def _require_split(run: Path, split: Path | None) -> Path:
    own = run / RUN_SPLIT
    if split is None and not own.is_file():
        raise UsageError(f"{run} holds no {RUN_SPLIT}. Name the split that it was trained on: `split=split.json`.")
    return split or own


def _refuse_training_scans(validation: TestSet, run: Path) -> None:
    """Scores of training scans are too confident to fit a temperature to."""
    own = run / RUN_SPLIT
    if not own.is_file():
        return
    count = len(hash_test_set(read_split(own).train) & hash_test_set(validation.entries))
    if count:
        raise DatasetError(
            f"{count} of the {len(validation.entries)} validation scans of {validation.split_file} are training scans "
            f"of this run (same content, {own}): the fit would be too confident. Use the run's own split."
        )


def _add_reference_stats(
    contract: Contract,
    model: Classifier,
    train: TestSet,
    val_features: NDArray[np.float64] | None,
    cache: Path | None,
    progress: Progress,
) -> tuple[Contract, tuple[str, ...]]:
    """Add training range and feature statistics to a contract; with sentences on them."""
    extractor = FeatureExtractor(model)
    if val_features is not None:
        for done, volume in enumerate(_read_inputs(train, model.contract, cache), start=1):
            if volume is not None:
                extractor.predict(volume)
            progress(done, len(train.entries), "Predicting scans")
    scans = [train.folder / entry.path for entry in train.entries]
    return with_training_stats(contract, scans, extractor.features, val_features)


def _read_inputs(train: TestSet, contract: Contract, cache: Path | None) -> Iterator[NDArray[np.float32] | None]:
    """Network inputs; None for scans that cannot be used."""
    if cache is None:
        yield from (_prepare(train.folder / entry.path, contract) for entry in train.entries)
        return
    # The files are named after the contract that training began with, before it was fitted.
    first = replace(contract.without_training_stats, temperature=Contract.temperature, threshold=Contract.threshold)
    cached = prepare_cache(train.folder, train.entries, first, cache).entries
    for entry in train.entries:
        yield map_input(cached[entry.path].file, contract.shape) if entry.path in cached else None


def _prepare(path: Path, contract: Contract) -> NDArray[np.float32] | None:
    try:
        return preprocess(open_scan(path), contract).volume
    except ScanError:
        return None


def _temperature_limits(temperature: float) -> tuple[str, ...]:
    """Warn of a temperature that could not be fitted, or is at an end of the search."""
    if temperature == 1:
        return ("Every scan is on its class's side of one half: no temperature can be fitted, it stays 1.",)
    low, high = TEMPERATURE_SEARCH_RANGE
    if low * NEAR < temperature < high / NEAR:
        return ()
    return (f"The temperature is at an end of its range ({low:g} to {high:g}): look at the scores first.",)
