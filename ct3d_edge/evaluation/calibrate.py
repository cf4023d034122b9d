"""Temperature and threshold of a training run, fitted on its validation scans and written into its contract."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.evaluation.classifier import (
    RUN_CONTRACT,
    RUN_MODEL,
    RUN_SPLIT,
    open_keras_classifier,
    require_two_classes,
    run_of,
)
from ct3d_edge.evaluation.evaluation import NEEDED
from ct3d_edge.evaluation.metrics import Proportion, calibration_error, confusion, log_loss, proportion
from ct3d_edge.evaluation.predict import predict_test_set
from ct3d_edge.evaluation.reference_stats import FeatureExtractor, has_reference_stats, measure_training_scans
from ct3d_edge.evaluation.test_set import TestSet, choose_test_set, class_mapping, find_test_set, hash_test_set
from ct3d_edge.evaluation.warnings import few_scans_warning, narrow_range_warning
from ct3d_edge.extras import require_extra
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.quality_control.check_registry import DOWNGRADABLE
from ct3d_edge.quality_control.checker import QualityChecker
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
    """What a contract makes of the validation scans."""

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
        What speaks against the result.
    left_out
        Paths and reasons of scans that took no part.
    recorded
        Sentences on what the contract says of the training scans; none if it did before.
    """

    contract_file: Path
    split_file: Path
    scans: tuple[tuple[str, int], ...]
    rule: ThresholdRule
    before: OperatingPoint
    after: OperatingPoint
    warnings: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]
    recorded: tuple[str, ...] = ()


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

    A contract that does not say how the training scans lie and what their features are gets that as well.

    Parameters
    ----------
    run
        Folder of a training run.
    folder
        What the split was made from.
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
        Look at the training scans even if the contract says what they are like.

    Raises
    ------
    UsageError
        ``run`` is no training run, or the arguments do not say where the scans are.
    DatasetError
        As for `evaluate`; or scans of the subset taught this run; or no threshold tells the classes apart.
    ModelError, MissingExtraError
        As for `evaluate`.
    """
    require_extra("evaluate", NEEDED)
    place = _require_run(run)
    split_file = _require_split(place, split)
    require_writable(place / RUN_CONTRACT)
    choice = choose_test_set(folder, split_file, "validation")
    model = open_keras_classifier(place, temperature=1.0)
    require_two_classes(model)
    earlier = Contract.from_json((place / RUN_CONTRACT).read_text("utf-8"))
    material = find_test_set(choice, skip_bad=skip_bad, progress=progress)
    class_mapping(material, model.contract)
    _refuse_taught(material, place)
    monitor = FeatureExtractor(model)
    verdicts = predict_test_set(
        material,
        monitor.predict,
        QualityChecker(model.contract, DOWNGRADABLE),  # the run was trained on such scans, whatever they are
        skip_bad=skip_bad,
        progress=progress,
    )
    fitted = fit_operating_point(earlier, verdicts.scores, verdicts.truth, rule or ThresholdRule())
    recorded: tuple[str, ...] = ()
    if anew or not has_reference_stats(earlier):
        taught_by = place / RUN_SPLIT if (place / RUN_SPLIT).is_file() else split_file
        try:
            fitted, recorded = measure_training_scans(
                fitted, model, taught_by, folder, monitor.features, cache, progress
            )
        except DatasetError as error:  # whoever calibrates may no longer have what the run was trained on
            recorded = (f"the training scans were not looked at: {error}",)
    with atomic_file(place / RUN_CONTRACT) as stream:
        stream.write(fitted.to_json().encode())
    return CalibrationResult(
        contract_file=place / RUN_CONTRACT,
        split_file=split_file,
        scans=tuple((label, int((verdicts.truth == n).sum())) for n, label in enumerate(fitted.labels)),
        rule=rule or ThresholdRule(),
        before=operating_point(earlier, verdicts.scores, verdicts.truth),
        after=operating_point(fitted, verdicts.scores, verdicts.truth),
        warnings=(
            *narrow_range_warning(verdicts.scores, fitted),
            *few_scans_warning(verdicts.truth, fitted),
            *check_temperature(fitted.temperature, len(verdicts.truth)),
            *_temperature_limits(fitted.temperature),
        ),
        left_out=tuple((scan.path, scan.reason) for scan in verdicts.left_out),
        recorded=recorded,
    )


def operating_point(contract: Contract, scores: NDArray[np.float64], truth: NDArray[np.int64]) -> OperatingPoint:
    """Figures of a contract's temperature and threshold on scores ``(N,)`` under temperature 1."""
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
            f"{path} is an exported file, and its proof belongs to its contract. Calibrate the training run, then "
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


def _refuse_taught(material: TestSet, run: Path) -> None:
    """Scores of scans that taught the network are surer than those of a patient will be."""
    own = run / RUN_SPLIT
    if not own.is_file():
        return
    taught = hash_test_set(read_split(own).train) & hash_test_set(material.entries)
    if taught:
        raise DatasetError(
            f"{len(taught)} of the {len(material.entries)} validation scans of {material.split_file} taught this run "
            f"(by content, {own}): what is fitted to them would be too sure. Use the run's own split."
        )


def _temperature_limits(temperature: float) -> tuple[str, ...]:
    """What a temperature at the end of what is possible means."""
    if temperature == 1:
        return ("Every scan stands on its class's side of one half: no temperature can be told from them, it stays 1.",)
    low, high = TEMPERATURE_SEARCH_RANGE
    if low * NEAR < temperature < high / NEAR:
        return ()
    return (f"The temperature ran to the end of what is searched ({low:g} to {high:g}): look at the scores first.",)
