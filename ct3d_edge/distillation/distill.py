"""From a trained network and its scans to a smaller one that predicts the same, compared on scans that neither saw."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct3d_edge.contract import Contract
from ct3d_edge.distillation.search import Candidate, Target, list_candidates, list_pruned_candidates, search
from ct3d_edge.errors import CheckFailedError, DatasetError, ModelError, UsageError
from ct3d_edge.evaluation.classifier import RUN_SPLIT, run_of
from ct3d_edge.evaluation.compare_models import compare_models, record_evidence
from ct3d_edge.evaluation.comparison import MARGIN, Comparison
from ct3d_edge.evaluation.test_set import map_classes
from ct3d_edge.keras_backend import import_keras
from ct3d_edge.progress import no_progress
from ct3d_edge.splits.folder import class_names
from ct3d_edge.splits.split import Split
from ct3d_edge.splits.split_file import read_split

if TYPE_CHECKING:
    from ct3d_edge.training.artifacts import TrainedRun
    from ct3d_edge.training.distillation import DistillationSettings, Teacher
    from ct3d_edge.training.network import Network, NetworkSpec
    from ct3d_edge.training.presets import Preset

    Choice = tuple[Network, tuple[int, int, int]]

LOGGER = logging.getLogger("ct3d_edge.distillation")

CLASSES = 2

SEARCHED = ("auto", "prune")
"""Names of networks that are chosen for a target."""

CHANNELS_LEFT = 0.25
"""Share of the teacher's channels that ``"prune"`` leaves where no target is stated: those of ``"narrow"``."""

NAMED = 10
"""Scans that a message lists."""


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
        the teacher's own network with its most important channels: a quarter, or the most that meet the target.
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
        As `train`; or there is no scan folder, or no test scan where a comparison is required.
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
    from ct3d_edge.training.distillation import DistillationSettings
    from ct3d_edge.training.fit import train
    from ct3d_edge.training.presets import DEFAULT
    from ct3d_edge.training.unlabelled import find_unlabelled

    opened = load_teacher(teacher, settings or DistillationSettings())
    run = _find_run_with_split(teacher)
    if split is None and run is not None:
        split = run / RUN_SPLIT
    folder = folder or find_folder(split)
    drawn = None if split is None else read_split(split)
    tested = set() if run is None else {entry.sha256 for entry in read_split(run / RUN_SPLIT).test}
    if drawn is not None:
        require_unseen_test_scans(drawn, tested)
    if require_comparison:
        require_test_scans(drawn)
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


def choose_student(teacher: "Teacher", network: str, target: Target | None, resumed: Path | None) -> "Choice":
    """The network to train, and its input.

    Parameters
    ----------
    network, target
        As in `distill`.
    resumed
        Folder of an interrupted run, whose choice stays; None for a new one.

    Raises
    ------
    UsageError, ModelError, CheckFailedError
        As `distill`.
    """
    from ct3d_edge.training.network import find_network
    from ct3d_edge.training.pruning import PrunedNetwork, find_spec, scale_filters

    size = teacher.contract.shape
    if network not in SEARCHED:
        if target is not None:
            raise UsageError("A target is for `network=auto` and `network=prune`.")
        return find_network(network), size
    if network == "auto":
        return _choose(teacher, target or Target(), list_candidates(teacher.contract), resumed)
    spec = find_spec(teacher.network, size)
    if target is None:
        pruned = scale_filters(spec, CHANNELS_LEFT)
    else:
        pruned, _ = _choose(teacher, target, list_pruned_candidates(spec, teacher.contract), resumed)
    return PrunedNetwork(pruned, teacher.network, teacher.sha256), size


def _choose(
    teacher: "Teacher", target: Target, candidates: Sequence[Candidate], resumed: Path | None
) -> "tuple[NetworkSpec, tuple[int, int, int]]":
    earlier = None if resumed is None else _find_earlier_choice(candidates, resumed)
    if earlier is not None:
        return earlier.network, earlier.size
    found = search(teacher, target, candidates, lambda measured: LOGGER.info("%s", measured.describe()))
    LOGGER.info("chosen: %s", found.network.name)
    return found.network, found.size


def _find_earlier_choice(candidates: Sequence[Candidate], out: Path) -> Candidate | None:
    """What an interrupted run chose; None if it did not get through its first epoch."""
    from ct3d_edge.training import artifacts
    from ct3d_edge.training.checkpoint import read_checkpoint

    if not (out / artifacts.CHECKPOINT).is_file():
        return None
    name = read_checkpoint(out / artifacts.CHECKPOINT).settings["network"].partition(",")[0]
    size = Contract.from_json((out / artifacts.CONTRACT).read_text(encoding="utf-8")).shape
    for candidate in candidates:
        if (candidate.network.name, candidate.size) == (name, size):
            return candidate
    raise UsageError(f"The interrupted run in {out} trained another network: {name}. Repeat its `network`.")


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
    from ct3d_edge.training.distillation import Teacher

    source = load_keras_source(path)
    labels = source.contract.labels
    if len(labels) != CLASSES:
        raise ModelError(f"{source.path} has {len(labels)} classes ({', '.join(labels)}); a student has two.")
    for message in (*source.messages, require_graph_mode(source.network)):
        if message:
            LOGGER.info("%s", message)
    return Teacher(source.network, source.contract, source.sha256, settings)


def _find_run_with_split(teacher: Path) -> Path | None:
    folder = run_of(teacher)
    return folder if folder is not None and (folder / RUN_SPLIT).is_file() else None


def find_folder(split: Path | None) -> Path:
    """The folder that a split file is in, if it is that of its scans.

    Raises
    ------
    UsageError
        If it is not, or there is no split file.
    """
    if split is not None and all((split.parent / name).is_dir() for name in read_split(split).classes):
        return split.parent
    raise UsageError("Name the folder with the two class folders: ct3d-edge distill RUN DIR --out SMALL.")


def require_test_scans(split: Split | None) -> None:
    """Make sure that student and teacher can be compared on scans of both classes that neither saw.

    Raises
    ------
    UsageError
        If they cannot.
    """
    if split is None or not all(split.count("test", label) for label in split.classes):
        raise UsageError(
            "Student and teacher are compared on test scans of both classes, and the split has none. Give one with a "
            "test subset (`split=`): ct3d-edge data split DIR --out split.json --test 0.25"
        )


def require_unseen_test_scans(split: Split, tested: Collection[str]) -> None:
    """Make sure that no test scan of the teacher trains or validates the student.

    Parameters
    ----------
    tested
        Content hashes of the teacher's test scans.

    Raises
    ------
    DatasetError
        Naming those that would.
    """
    seen = [entry.path for entry in split.train + split.validation if entry.sha256 in tested]
    if seen:
        named = "".join(f"\n  {path}" for path in seen[:NAMED])
        raise DatasetError(
            f"Test scans of the teacher among those to train or validate on: {len(seen)} (same content). Neither "
            f"network could be tested on them: give the teacher's split, or remove:{named}"
        )
