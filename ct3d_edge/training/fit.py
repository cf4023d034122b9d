"""From two folders of scans to a trained run: ``model.keras``, its contract, its history and its split."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.extras import require_extra
from ct3d_edge.keras_backend import require_graph_mode
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.splits.split import ExcludedScan, Split
from ct3d_edge.splits.split_file import write_split
from ct3d_edge.training import artifacts
from ct3d_edge.training.artifacts import TrainedRun, finish_run
from ct3d_edge.training.batches import TrainingData
from ct3d_edge.training.checkpoint import NO_TEACHER, Checkpoint, read_checkpoint, require_same, settings_of
from ct3d_edge.training.data import ScanArrays, VolumeSource, choose_split, prepare_scans
from ct3d_edge.training.distillation import DistilledModel
from ct3d_edge.training.distributed import (
    Distribution,
    count_replicas,
    is_chief,
    open_strategy,
    require_same_settings,
    scope,
    send_file,
    wait_for_all,
)
from ct3d_edge.training.distributed_step import require_scan_for_each, require_whole_shares
from ct3d_edge.training.estimate import OnEstimate, estimate_duration
from ct3d_edge.training.history import OnEpoch
from ct3d_edge.training.loop import Loop
from ct3d_edge.training.network import (
    Network,
    Precision,
    build_untrained,
    compile_for,
    copy_for_inference,
    find_network,
    read_weights,
    require_precision,
    use_precision,
)
from ct3d_edge.training.presets import DEFAULT, Preset
from ct3d_edge.training.run_contract import complete_contract, make_contract
from ct3d_edge.training.teacher import Teacher, require_distinct_predictions
from ct3d_edge.training.teacher_inputs import prepare_for_teacher

LOGGER = logging.getLogger("ct3d_edge.training")

LARGEST_SEED = 2**32 - 1


def train(
    folder: Path,
    out: Path,
    preset: Preset = DEFAULT,
    *,
    network: str | Network = "tutorial",
    size: tuple[int, int, int] = Contract.shape,
    orientation: str = Contract.orientation,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    validation: float | None = None,
    split: Path | None = None,
    fold: int | None = None,
    skip_bad: bool = False,
    cache: Path | None = None,
    initial: Path | None = None,
    precision: Precision = "float32",
    distribute: Distribution = "none",
    tensorboard: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    teacher: Teacher | None = None,
    progress: Progress = no_progress,
    on_estimate: OnEstimate | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainedRun:
    """Train a network on the scans in the two class folders of ``folder``.

    The same preset, seed, data and machine give the same losses on a CPU, whether a run was interrupted and resumed
    or not; on a GPU some sums have no fixed order.

    Parameters
    ----------
    folder, validation
        See `create_split`; 0.3 if None.
    out
        Run folder; made if missing. ``split.json`` and ``contract.json`` are written once all scans are read,
        ``history.csv`` and ``checkpoint.npz`` with every epoch, ``curves.png`` and ``model.keras`` (without
        optimizer state) at the end, when the checkpoint is removed.
    preset
        How the network learns.
    network
        ``"tutorial"``, ``"narrow"``, ``"stem"``, or ``"FILE.py:function"`` for a function of your own; see
        `ct3d_edge.training.network`.
    size
        Network input ``(W, H, D)`` in voxels.
    orientation
        Axis code to which scans are turned, or ``"stored"``; see `Contract`.
    labels
        Names of the two classes in the order of the split; None takes the folder names, with CT-0 called
        normal and CT-23 abnormal.
    seed
        0 to 2**32 - 1; draws the split, the weights, the order of the scans, their changes and the dropout.
    split
        Split file of ``folder`` to follow instead of drawing one; its test subset is not read. ``folder`` must
        match it, see `verify_folder`.
    fold
        Validate on this fold of the split file, train on the others.
    skip_bad
        Go on without scans that cannot be used; ``split.json`` of the run names them.
    cache
        Folder that keeps the prepared scans for other runs; None prepares them in ``out`` until the run ends.
    initial
        A .keras file of the same network, at any input size, whose weights training starts from.
    precision
        Of the layers' arithmetic; weights and the saved network are float32 in any case.
    distribute
        Which devices share each batch: ``"none"`` for one, ``"mirrored"`` for all of this machine,
        ``"multiworker"`` for those of the machines in ``TF_CONFIG``, each of which calls this function with the same
        arguments, as the first thing that it does with TensorFlow. Worker 0 alone writes files and reports progress.
    tensorboard
        Folder for TensorBoard's event files.
    resume
        Go on with the run that was interrupted in ``out``, if there is one.
    overwrite
        Replace the model and the other files of an earlier run in ``out``.
    teacher
        A network whose predictions are part of the loss; its contract replaces ``size``, ``orientation`` and
        ``labels``. See `ct3d_edge.distillation.distill`.
    progress
        Called twice a scan before the training.
    on_estimate
        Receives a `DurationEstimate` before the first epoch.
    on_epoch
        Receives an `EpochDone` an epoch.

    Raises
    ------
    UsageError
        An argument is out of its range, ``out`` holds a run that would be lost or is not the one to resume, or
        cannot be written to. The devices cannot share the work, or the workers were not started in the same way.
    ProviderError
        Another worker has ended.
    DatasetError
        ``folder`` cannot be split or is not that of the split file, scans in it cannot be used, or the loss became
        NaN or infinite.
    """
    _check_arguments(seed, precision)
    network = find_network(network) if isinstance(network, str) else network
    strategy = open_strategy(distribute)
    devices, chief = count_replicas(strategy), is_chief(strategy)
    require_whole_shares(preset.batch_size, devices)
    if chief:
        artifacts.refuse_to_overwrite(out, resume=resume, overwrite=overwrite)
    else:
        progress, on_epoch = no_progress, None
    drawn, unreadable = choose_split(folder, split, fold, validation, seed, skip_bad, progress)
    contract = make_contract(size, orientation, labels, drawn) if teacher is None else teacher.student_contract
    keras.utils.set_random_seed(seed)
    with scope(strategy), use_precision(precision):
        model = _build_model(network, contract, preset, initial, strategy)
    callbacks = [_open_tensorboard(tensorboard)] if tensorboard and chief else []
    with (
        artifacts.open_run_folder(out, chief=chief) as own,
        _prepare_data(
            folder, drawn, unreadable, contract, teacher, cache, own / artifacts.CACHE, skip_bad, progress
        ) as (arrays, teacher_volumes),
    ):
        settings = settings_of(network.identity, preset, seed, contract, arrays.split, initial, precision, devices)
        settings |= NO_TEACHER if teacher is None else teacher.identity
        require_same_settings(strategy, {**settings, "resume": resume})
        require_scan_for_each(arrays.training_count, len(arrays.split.validation), devices)
        checkpoint = _resume_or_begin(strategy, own, settings, arrays.split, contract, resume=resume)
        data = TrainingData.of(arrays, contract, preset, seed, devices, teacher_volumes)
        with scope(strategy):
            learner = model if teacher is None else _add_teacher(model, teacher, data)
            compile_for(learner, preset, data.training.steps)
            if on_estimate is not None:
                on_estimate(estimate_duration(learner, data, preset, 0 if checkpoint is None else checkpoint.epochs))
            loop = Loop(learner, data, preset, own, settings, on_epoch, strategy)
            records = loop.run(callbacks, checkpoint)
        trained = copy_for_inference(network, contract, model.get_weights())
        contract, calibration, reference_stats = complete_contract(contract, trained, data, preset, folder)
    run = TrainedRun(out, contract, arrays.split, preset, records, arrays.flags, calibration, reference_stats, chief)
    if chief:
        finish_run(run, trained)
    wait_for_all(strategy)
    return run


def _check_arguments(seed: int, precision: Precision) -> None:
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"The seed must lie between 0 and {LARGEST_SEED}, found {seed}.")
    require_extra("train", ["matplotlib"])  # before hours of work whose curves it would draw
    require_precision(precision)


def _build_model(
    network: Network,
    contract: Contract,
    preset: Preset,
    initial: Path | None,
    strategy: tf.distribute.Strategy | None,
) -> keras.Model:
    """The network, untrained or with the weights of a file; on one device a warning if it cannot run as a graph."""
    weights = None if initial is None else read_weights(network, initial, contract.shape)
    model = build_untrained(network, contract, preset.momentum, weights)
    # In graph mode it is fitted, validated and calibrated; several devices run the same graph.
    note = require_graph_mode(model) if strategy is None else None
    if note:
        LOGGER.warning("WARNING: %s", note)
    return model


@contextmanager
def _prepare_data(
    folder: Path,
    split: Split,
    unreadable: tuple[ExcludedScan, ...],
    contract: Contract,
    teacher: Teacher | None,
    cache: Path | None,
    own_cache: Path,
    skip_bad: bool,
    progress: Progress,
) -> Iterator[tuple[ScanArrays, VolumeSource | None]]:
    """The scans of a run, and those of its teacher; in ``own_cache``, until the end, if there is no ``cache``."""
    where, keep = cache or own_cache, cache is not None
    with (
        prepare_scans(
            folder, split, contract, where, progress, keep=keep, skip_bad=skip_bad, unreadable=unreadable
        ) as labelled,
        prepare_for_teacher(teacher, folder, labelled, where, progress, keep=keep, skip_bad=skip_bad) as prepared,
    ):
        yield prepared


def _add_teacher(model: keras.Model, teacher: Teacher, data: TrainingData) -> DistilledModel:
    require_distinct_predictions(teacher, data)
    return DistilledModel(model, teacher)


def _resume_or_begin(
    strategy: tf.distribute.Strategy | None,
    out: Path,
    settings: dict[str, Any],
    split: Split,
    contract: Contract,
    *,
    resume: bool,
) -> Checkpoint | None:
    """The chief's checkpoint; None, and the first files of a new run, if no run got through its first epoch."""
    file = out / artifacts.CHECKPOINT
    if resume:
        send_file(strategy, file)
        if file.exists():
            checkpoint = read_checkpoint(file)
            require_same(settings, checkpoint.settings, out)
            return checkpoint
    artifacts.remove_old_files(out)
    write_split(out / artifacts.SPLIT, split)
    artifacts.write_text(out / artifacts.CONTRACT, contract.to_json())
    return None


def _open_tensorboard(folder: Path) -> keras.callbacks.Callback:
    require_extra("tensorboard", ["tensorboard"])
    return keras.callbacks.TensorBoard(str(folder), write_graph=False)
