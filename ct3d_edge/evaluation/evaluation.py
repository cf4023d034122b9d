"""The evaluation of a model on scans of known class: metrics, their origin, and warnings."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from ct3d_edge.contract import Contract
from ct3d_edge.evaluation.classifier import Classifier, open_classifier, run_of
from ct3d_edge.evaluation.intervals import CONFIDENCE, RESAMPLES
from ct3d_edge.evaluation.metrics import Metrics, compute_metrics
from ct3d_edge.evaluation.predict import Predictions, ScanPrediction, predict_test_set
from ct3d_edge.evaluation.test_set import TestSet, check_leakage, choose_test_set, class_mapping, find_test_set
from ct3d_edge.evaluation.warnings import evaluation_limits, identical_predictions_warning
from ct3d_edge.extras import require_extra
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.splits.split import Duplicate, ExcludedScan, Subset
from ct3d_edge.system.machine import find_installed_version

SCHEMA = 1
"""Version of the JSON form; raised when the meaning of a field changes."""

NEEDED = ("sklearn", "scipy")
TOOLS = ("ct3d-edge", "scikit-learn", "scipy", "numpy", "onnxruntime", "onnxruntime-gpu", "keras", "tensorflow")


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on a test set.

    Parameters
    ----------
    warnings
        Limits of the metrics, the most serious first.
    model, model_sha256, contract, run_by, remarks
        The model; see `Classifier`.
    folder, split_file, subset
        The scans; see `TestSet`.
    classes
        ``(class folder, label)`` in the order of the labels.
    figures
        All metrics.
    scans
        One prediction a scan.
    left_out, duplicates
        Files that were not used: unusable ones, and repetitions of another's content.
    flags
        How many scans have each quality flag, by its code.
    """

    warnings: tuple[str, ...]
    model: Path
    model_sha256: str
    contract: Contract
    run_by: str
    remarks: tuple[str, ...]
    folder: Path
    split_file: Path | None
    subset: Subset
    classes: tuple[tuple[str, str], ...]
    figures: Metrics
    scans: tuple[ScanPrediction, ...]
    left_out: tuple[ExcludedScan, ...]
    duplicates: tuple[Duplicate, ...]
    flags: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, documented in docs/evaluation.md."""
        return {
            "schema": SCHEMA,
            "warnings": list(self.warnings),
            "model": {
                "file": str(self.model),
                "sha256": self.model_sha256,
                "contract_sha256": self.contract.sha256,
                "labels": list(self.contract.labels),
                "threshold": self.contract.threshold,
                "temperature": self.contract.temperature,
                "run_by": self.run_by,
                "remarks": list(self.remarks),
            },
            "data": {
                "folder": str(self.folder),
                "split": None if self.split_file is None else str(self.split_file),
                "subset": self.subset,
                "class_folders": dict(self.classes),
                "left_out": [msgspec.structs.asdict(scan) for scan in self.left_out],
                "duplicates": [msgspec.structs.asdict(duplicate) for duplicate in self.duplicates],
                "flags": dict(self.flags),
            },
            "figures": {"confidence": CONFIDENCE, **_figures_data(self.figures)},
            "scans": [self._scan_data(scan) for scan in self.scans],
            "tools": {name: version for name in TOOLS if (version := find_installed_version(name))},
        }

    def _scan_data(self, scan: ScanPrediction) -> dict[str, Any]:
        labels = self.contract.labels
        return {
            "scan": scan.scan,
            "sha256": scan.sha256,
            "truth": labels[scan.truth],
            "probability": scan.probability,
            "prediction": labels[scan.prediction],
            "correct": scan.correct,
            "flags": [flag.code for flag in scan.flags],
        }


def evaluate(
    model: Path,
    folder: Path | None = None,
    *,
    split: Path | None = None,
    subset: Subset | None = None,
    config: InferenceConfig = InferenceConfig(),  # noqa: B008 - frozen
    skip_bad: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Evaluation:
    """Evaluate a model of two classes on scans of known class.

    Parameters
    ----------
    model
        A .onnx file, a .keras file or the folder of a training run.
    folder, split, subset
        Which scans; see `choose_test_set`. Without a split, all of ``folder`` is the test set.
    config
        The session of a .onnx file, and the checks that are downgraded.
    skip_bad
        Go on without scans that cannot be read or predicted; the result names them.
    resamples, seed
        Of the bootstrap intervals.
    progress
        Called twice a scan, then after each resample.

    Raises
    ------
    UsageError
        The arguments contradict each other or do not name the scans.
    DatasetError
        Split and folder do not fit, a class has no scan, or scans cannot be used.
    ModelError, ProviderError
        The model cannot be used, or has more than two classes.
    MissingExtraError
        scikit-learn or SciPy, or Keras for a Keras model, is not installed.
    """
    require_extra("evaluate", NEEDED)
    choice = choose_test_set(folder, split, subset)
    with open_classifier(model, config) as classifier:
        test_set = find_test_set(choice, skip_bad=skip_bad, progress=progress)
        return evaluate_classifier(
            classifier,
            test_set,
            run_of(model),
            QualityChecker(classifier.contract, config.allow),
            skip_bad=skip_bad,
            resamples=resamples,
            seed=seed,
            progress=progress,
        )


def evaluate_classifier(
    classifier: Classifier,
    test_set: TestSet,
    run: Path | None,
    checker: QualityChecker,
    *,
    skip_bad: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Evaluation:
    """`evaluate` for an open model and scans that were found.

    Parameters
    ----------
    run
        Folder of the training run that the model is, or is in; None if it is another file.
    checker
        Quality checks under the model's contract.
    """
    contract = classifier.contract
    classes = class_mapping(test_set, contract)
    leakage = check_leakage(test_set, run)
    predictions = predict_test_set(test_set, classifier.predict, checker, skip_bad=skip_bad, progress=progress)
    return Evaluation(
        warnings=_order_warnings(predictions, contract, test_set.subset, leakage),
        model=classifier.path,
        model_sha256=classifier.sha256,
        contract=contract,
        run_by=classifier.run_by,
        remarks=classifier.remarks,
        folder=test_set.folder,
        split_file=test_set.split_file,
        subset=test_set.subset,
        classes=classes,
        figures=compute_metrics(
            predictions.truth,
            predictions.scores,
            predictions.predicted,
            resamples=resamples,
            seed=seed,
            progress=progress,
        ),
        scans=predictions.scans,
        left_out=predictions.left_out,
        duplicates=test_set.split.duplicates if test_set.split_file is None else (),
        flags=predictions.flags,
    )


def _order_warnings(
    predictions: Predictions, contract: Contract, subset: Subset, leakage: tuple[str, ...]
) -> tuple[str, ...]:
    """All warnings, the most serious ones first."""
    identical = identical_predictions_warning(predictions, contract)
    return (*identical, *leakage, *evaluation_limits(predictions, contract, subset))


def _figures_data(figures: Metrics) -> dict[str, Any]:
    """Nested plain data; a share also as a number."""
    data = asdict(figures)
    for name in ("accuracy", "sensitivity", "specificity"):
        data[name] = {"value": getattr(figures, name).value, **data[name]}
    return data
