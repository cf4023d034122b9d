"""A model judged on scans of known class: the figures, what they were made from, and what speaks against them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec

from ct3d_edge.contract import Contract
from ct3d_edge.evaluation.classifier import open_classifier, run_of
from ct3d_edge.evaluation.metrics import CONFIDENCE, RESAMPLES, Metrics, compute_metrics
from ct3d_edge.evaluation.predict import ScanPrediction, predict_test_set
from ct3d_edge.evaluation.test_set import check_leakage, choose_test_set, class_mapping, find_test_set
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
    """What a model is worth on a set of scans.

    Parameters
    ----------
    warnings
        What speaks against taking the figures at face value, the gravest first.
    model, model_sha256, contract, run_by, remarks
        What was judged; see `Model`.
    folder, split_file, subset
        On which scans; see `Material`.
    classes
        ``(class folder, label)`` in the order of the labels.
    figures
        All of them.
    scans
        One verdict a scan.
    left_out, duplicates
        Files that took no part: unusable ones, and repetitions of another's content.
    flags
        How many scans have each finding, by its code.
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
            "scans": [self._scan_data(verdict) for verdict in self.scans],
            "tools": {name: version for name in TOOLS if (version := find_installed_version(name))},
        }

    def _scan_data(self, verdict: ScanPrediction) -> dict[str, Any]:
        labels = self.contract.labels
        return {
            "scan": verdict.scan,
            "truth": labels[verdict.truth],
            "probability": verdict.probability,
            "answer": labels[verdict.prediction],
            "correct": verdict.correct,
            "flags": [flag.code for flag in verdict.flags],
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
    """Judge a model of two classes on scans whose class is known.

    Parameters
    ----------
    model
        A .onnx file, a .keras file or the folder of a training run.
    folder, split, subset
        Which scans; see `choose_test_set`. Without a split, all of ``folder`` is the test set.
    config
        The session of a .onnx file, and the checks that are downgraded.
    skip_bad
        Go on without scans that cannot be read or judged; the result names them.
    resamples, seed
        Of the bootstrap intervals.
    progress
        Called twice a scan, then after each resample.

    Raises
    ------
    UsageError
        The arguments contradict each other or do not say where the scans are.
    DatasetError
        Split and folder do not fit, a class has no scan, or scans cannot be used.
    ModelError, ProviderError
        The model cannot be used, or tells more than two classes apart.
    MissingExtraError
        scikit-learn or SciPy, or Keras for a Keras model, is not installed.
    """
    require_extra("evaluate", NEEDED)
    choice = choose_test_set(folder, split, subset)
    with open_classifier(model, config) as opened:
        material = find_test_set(choice, skip_bad=skip_bad, progress=progress)
        contract = opened.contract
        classes = class_mapping(material, contract)
        seen = check_leakage(material, run_of(model))
        verdicts = predict_test_set(
            material,
            opened.predict,
            QualityChecker(contract, config.allow),
            skip_bad=skip_bad,
            progress=progress,
        )
    return Evaluation(
        warnings=(
            *identical_predictions_warning(verdicts, contract),
            *seen,
            *evaluation_limits(verdicts, contract, material.subset),
        ),
        model=opened.path,
        model_sha256=opened.sha256,
        contract=contract,
        run_by=opened.run_by,
        remarks=opened.remarks,
        folder=material.folder,
        split_file=material.split_file,
        subset=material.subset,
        classes=classes,
        figures=compute_metrics(
            verdicts.truth,
            verdicts.scores,
            verdicts.answers,
            resamples=resamples,
            seed=seed,
            progress=progress,
        ),
        scans=verdicts.scans,
        left_out=verdicts.left_out,
        duplicates=material.split.duplicates if split is None else (),
        flags=verdicts.flags,
    )


def _figures_data(figures: Metrics) -> dict[str, Any]:
    """Nested plain data; a share also as a number."""
    data = asdict(figures)
    for name in ("accuracy", "sensitivity", "specificity"):
        data[name] = {"value": getattr(figures, name).value, **data[name]}
    return data
