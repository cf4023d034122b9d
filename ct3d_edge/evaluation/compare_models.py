"""Evaluate a model and its reference on the same labelled scans, and compare them."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from ct3d_edge.errors import DatasetError, ModelError, UsageError
from ct3d_edge.evaluation.classifier import Classifier, open_classifier, run_of
from ct3d_edge.evaluation.comparison import MARGIN, Comparison, compare_evaluations
from ct3d_edge.evaluation.evaluation import NEEDED, Evaluation, evaluate_classifier
from ct3d_edge.evaluation.intervals import RESAMPLES
from ct3d_edge.evaluation.test_set import TestSet, choose_test_set, count_leaked_scans, find_test_set
from ct3d_edge.extras import require_extra
from ct3d_edge.inference.config import InferenceConfig
from ct3d_edge.modelfile.comparison_evidence import RUN_COMPARISON, to_json
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.splits.split import Subset
from ct3d_edge.system.atomic_write import atomic_file


def compare_models(
    model: Path,
    reference: Path,
    folder: Path | None = None,
    *,
    split: Path | None = None,
    subset: Subset | None = None,
    config: InferenceConfig = InferenceConfig(),  # noqa: B008 - frozen
    skip_bad: bool = False,
    margin: float = MARGIN,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress = no_progress,
) -> Comparison:
    """Evaluate two models on the same scans of known class, and how they differ.

    Parameters
    ----------
    model, reference
        A .onnx file, a .keras file or the folder of a training run each.
    folder, split, subset
        Which scans; see `ct3d_edge.evaluation.evaluation.evaluate`.
    config
        The session of .onnx files, and the checks that are downgraded. A provider concerns .onnx files only; one of
        the two must be such a file.
    skip_bad
        Go on without scans that one of them cannot predict; see `Comparison`.
    margin
        By how much the AUC of the model may be lower, from 0 to 1.
    resamples, seed, progress
        As for `evaluate`.

    Raises
    ------
    UsageError
        The margin is out of range, or the arguments do not name the scans.
    DatasetError
        As for `evaluate`; or no scan, or scans of one class only, are predicted by both.
    ModelError
        As for `evaluate`; or the models have different labels.
    ProviderError, MissingExtraError
        As for `evaluate`.
    """
    require_comparable(margin)
    choice = choose_test_set(folder, split, subset)
    runs = run_of(model), run_of(reference)
    with (
        open_classifier(model, _own_config(model, reference, config)) as first,
        open_classifier(reference, _own_config(reference, model, config)) as second,
    ):
        _require_same_labels(first, second)
        test_set = find_test_set(choice, skip_bad=skip_bad, progress=progress)
        evaluate_side = partial(
            _evaluate_side,
            test_set=test_set,
            config=config,
            skip_bad=skip_bad,
            resamples=resamples,
            seed=seed,
            progress=progress,
        )
        evaluated, against = evaluate_side(first, runs[0]), evaluate_side(second, runs[1])
    leaks = tuple(_find_leaks(test_set, *runs))
    return compare_evaluations(evaluated, against, margin, leaks, resamples=resamples, seed=seed, progress=progress)


def require_comparable(margin: float) -> None:
    """Make sure, before anything that takes long, that a comparison can be made.

    Raises
    ------
    UsageError
        The margin is out of range.
    MissingExtraError
        A package is missing.
    """
    if not 0 <= margin < 1:
        raise UsageError(f"A margin is a difference of AUC from 0 to below 1, found `margin={margin:g}`.")
    require_extra("evaluate", NEEDED)


def _evaluate_side(
    classifier: Classifier,
    run: Path | None,
    *,
    test_set: TestSet,
    config: InferenceConfig,
    skip_bad: bool,
    resamples: int,
    seed: int,
    progress: Progress,
) -> Evaluation:
    checker = QualityChecker(classifier.contract, config.allow)
    try:
        return evaluate_classifier(
            classifier,
            test_set,
            run,
            checker,
            skip_bad=skip_bad,
            resamples=resamples,
            seed=seed,
            progress=progress,
        )
    except DatasetError as error:
        raise DatasetError(f"With {classifier.path}: {error}") from error


def _own_config(path: Path, other: Path, config: InferenceConfig) -> InferenceConfig:
    """The settings without a provider for a Keras model beside an .onnx file; beside another one, they are refused."""
    kinds = path.suffix.lower() == ".onnx", other.suffix.lower() == ".onnx"
    if kinds != (False, True):
        return config
    return replace(config, provider="auto", device_id=None, provider_options=())


def _require_same_labels(first: Classifier, second: Classifier) -> None:
    labels, others = first.contract.labels, second.contract.labels
    if labels != others:
        raise ModelError(
            f"{first.path} predicts {', '.join(labels)} and {second.path} {', '.join(others)}: models are compared "
            "on the same classes in the same order. Export one of them again with `labels`."
        )


def _find_leaks(test_set: TestSet, run: Path | None, reference: Path | None) -> Iterator[str]:
    """Sentences on scans that a model was trained or selected on."""
    if test_set.subset != "test":
        yield f"These are {test_set.subset} scans, which models of this split were trained or selected on."
        return
    for name, folder in (("the model", run), ("the reference", reference)):
        for subset, count in count_leaked_scans(test_set, folder).items():
            if count:
                yield f"{count} of the {len(test_set.entries)} scans are {subset} scans of {name}."


def require_recordable(model: Path) -> Path:
    """The folder of the training run that a model is, or is in.

    Raises
    ------
    UsageError
        If it is another file.
    """
    folder = run_of(model)
    if folder is None:
        raise UsageError(
            f"{model} is no training run: only a run keeps a comparison, which `export` puts into the model file."
        )
    return folder


def record_evidence(comparison: Comparison, run: Path, *, student: bool = False) -> Path:
    """Write what goes with a training run, and from there into every file that is exported from it; its path.

    Raises
    ------
    UsageError
        If ``run`` is not the training run that was compared.
    CheckFailedError
        If nothing follows from the comparison.
    """
    folder = require_recordable(run)
    if comparison.model.model.resolve().parent != folder.resolve():
        raise UsageError(f"The comparison is of {comparison.model.model}, not of the run {folder}.")
    evidence = comparison.evidence(student=student)
    with atomic_file(folder / RUN_COMPARISON) as stream:
        stream.write(to_json(evidence).encode())
    return folder / RUN_COMPARISON
