"""From a trained network and its scans to a smaller one that predicts the same, compared on scans that neither saw."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct3d_edge.distillation.allowed_scans import (
    find_folder,
    find_run_with_split,
    require_test_scans,
    require_unseen_test_scans,
)
from ct3d_edge.distillation.search import Target
from ct3d_edge.distillation.student import choose_student
from ct3d_edge.errors import CheckFailedError, DatasetError, ModelError, UsageError
from ct3d_edge.evaluation.classifier import RUN_SPLIT
from ct3d_edge.evaluation.compare_models import compare_models, record_evidence, require_comparable
from ct3d_edge.evaluation.comparison import MARGIN, Comparison
from ct3d_edge.evaluation.test_set import map_classes
from ct3d_edge.keras_backend import import_keras
from ct3d_edge.progress import no_progress
from ct3d_edge.splits.folder import class_names
from ct3d_edge.splits.split_file import read_split

if TYPE_CHECKING:
    from ct3d_edge.training.artifacts import TrainedRun
    from ct3d_edge.training.presets import Preset
    from ct3d_edge.training.teacher import DistillationSettings, Teacher

LOGGER = logging.getLogger("ct3d_edge.distillation")

CLASSES = 2


@dataclass(frozen=True, eq=False)
class DistilledRun:
    """A student, and how it differs from its teacher.

    Parameters
    ----------
    run
        Its training run.
    comparison
        With the teacher on the test subset, which neither saw; None without one.
    """

    run: "TrainedRun"
    comparison: Comparison | None

    def require_non_inferior(self) -> None:
        """Raise a `CheckFailedError` if the student is not shown to be non-inferior to its teacher."""
        if self.comparison is None:
            raise CheckFailedError(
                f"{self.run.model} was not compared with its teacher: that needs test scans of both classes, which "
                "neither saw. Give a split with a test subset (ct3d-edge data split --test 0.25)."
            )
        self.comparison.require_non_inferior()


def distill(
    teacher: Path,
    folder: Path | None,
    out: Path,
    preset: "Preset | None" = None,
    *,
    network: str = "narrow",
    target: Target | None = None,
    settings: "DistillationSettings | None" = None,
    split: Path | None = None,
    fold: int | None = None,
    unlabelled: Path | None = None,
    margin: float = MARGIN,
    require_comparison: bool = False,
    **options: Any,
) -> DistilledRun:
    """Train a small network to predict what a trained one predicts.

    The student learns from the labels, and from the teacher's logits and pooled features for the same augmented
    volumes. It takes the teacher's input (``"auto"``: or a smaller one) and has its labels; temperature and threshold
    are fitted at the end. Then both are compared on the test subset of the split, which neither saw.

    Parameters
    ----------
    teacher
        Folder of a training run, or a .keras file, for two classes.
    folder
        With two class folders; None if the split file is in it.
    out
        Folder for the student: a training run like those of `train`.
    preset
        How the student learns; the default preset if None.
    network
        As in `train`: ``"narrow"``, ``"stem"``, ``"FILE.py:function"``; or ``"auto"`` for the largest one of a small
        space whose exported file meets the target on this device, measured before the training; or ``"prune"`` for
        the teacher's own network with its most important channels: a quarter, or the most that meet the target;
        ``"prune:16-32-64-128"`` keeps so many of each block.
    target
        Of ``"auto"`` and ``"prune"``.
    settings
        Weights of the teacher's part of the loss; `DistillationSettings()` if None.
    split, fold
        Which scans train and validate; the split of the teacher's run if None.
    unlabelled
        A folder of more scans to train on, to which the teacher gives labels.
    margin
        By how much the AUC of the student may be lower; see `Comparison`.
    require_comparison
        Refuse a split without test scans of both classes, before the training.
    options
        ``seed``, ``validation``, ``skip_bad``, ``cache``, ``precision``, ``tensorboard``, ``resume``, ``overwrite``,
        ``progress``, ``on_estimate`` and ``on_epoch`` of `train`.

    Raises
    ------
    UsageError
        As `train`; or there is no scan folder, or no test scan where a comparison is required, or the margin is out
        of range.
    ModelError
        The teacher cannot be loaded, has other than two classes, or predicts the same for every scan.
    CheckFailedError
        No network meets the target; the message names the nearest.
    DatasetError
        As `train`; or test scans of the teacher are among those to train on, or class folders have the names of
        the other labels.
    """
    import_keras()
    from ct3d_edge.training import artifacts
    from ct3d_edge.training.fit import train
    from ct3d_edge.training.presets import DEFAULT
    from ct3d_edge.training.teacher import DistillationSettings
    from ct3d_edge.training.unlabelled import find_unlabelled

    opened = load_teacher(teacher, settings or DistillationSettings())
    run = find_run_with_split(teacher)
    if split is None and run is not None:
        split = run / RUN_SPLIT
    folder = folder or find_folder(split)
    drawn = None if split is None else read_split(split)
    tested = set() if run is None else {entry.sha256 for entry in read_split(run / RUN_SPLIT).test}
    if drawn is not None:
        require_unseen_test_scans(drawn, tested)
    if require_comparison:
        require_test_scans(drawn)
    if drawn is not None and drawn.test:
        require_comparable(margin)
    map_classes(class_names(folder), opened.contract)
    artifacts.refuse_to_overwrite(out, resume=options.get("resume", False), overwrite=options.get("overwrite", False))
    extra = None
    if unlabelled is not None:
        if drawn is None:
            raise UsageError("Some of the unlabelled scans may validate: give the split of the others (`split=`).")
        skip_bad, progress = options.get("skip_bad", False), options.get("progress", no_progress)
        extra = find_unlabelled(unlabelled, drawn, tested, skip_bad=skip_bad, progress=progress)
    student, size = choose_student(opened, network, target, out if options.get("resume") else None)
    trained = train(
        folder,
        out,
        preset or DEFAULT,
        network=student,
        split=split,
        fold=fold,
        teacher=replace(opened, student_size=size, unlabelled=extra),
        **options,
    )
    comparison = _compare(trained, teacher, folder, margin, options) if trained.split.test else None
    return DistilledRun(trained, comparison)


def _compare(
    run: "TrainedRun", teacher: Path, folder: Path, margin: float, options: dict[str, Any]
) -> Comparison | None:
    """Compare on the test subset, and leave the result in the run; None with a message if the scans are unusable."""
    try:
        comparison = compare_models(
            run.folder,
            teacher,
            folder,
            split=run.folder / RUN_SPLIT,
            skip_bad=options.get("skip_bad", False),
            margin=margin,
            progress=options.get("progress", no_progress),
        )
    except DatasetError as error:  # the student is there, and shall not seem to be lost
        LOGGER.warning("WARNING: not compared with the teacher: %s", error)
        return None
    if not comparison.invalid_because:
        record_evidence(comparison, run.folder, student=True)
    return comparison


def load_teacher(path: Path, settings: "DistillationSettings") -> "Teacher":
    """Load a training run or a .keras file.

    Raises
    ------
    UsageError, ContractError
        As `load_keras_source`.
    ModelError
        The same, or it does not have two classes.
    """
    from ct3d_edge.conversion.keras_loader import load_keras_source
    from ct3d_edge.keras_backend import require_graph_mode
    from ct3d_edge.training.teacher import Teacher

    source = load_keras_source(path)
    labels = source.contract.labels
    if len(labels) != CLASSES:
        raise ModelError(f"{source.path} has {len(labels)} classes ({', '.join(labels)}); a student has two.")
    for message in (*source.messages, require_graph_mode(source.network)):
        if message:
            LOGGER.info("%s", message)
    return Teacher(source.network, source.contract, source.sha256, settings)
