"""From two folders of scans to a trained run: ``model.keras``, its contract, its history and its split."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ContractError, UsageError
from ct3d_edge.extras import require_extra
from ct3d_edge.keras_backend import require_graph_mode
from ct3d_edge.splits.split import Split
from ct3d_edge.splits.split_file import write_split
from ct3d_edge.training import artifacts
from ct3d_edge.training.artifacts import TrainedRun, finish_run
from ct3d_edge.training.batches import TrainingData
from ct3d_edge.training.checkpoint import Checkpoint, read_checkpoint
from ct3d_edge.training.data import prepared_scans
from ct3d_edge.training.distributed.coordination import hand_out, require_agreement, wait_for_all
from ct3d_edge.training.distributed.step import require_scan_for_each, require_whole_shares
from ct3d_edge.training.distributed.strategy import Distribution, is_chief, open_strategy, replicas, scope
from ct3d_edge.training.finish import UNCALIBRATED, calibrate_at_end, record_stats_at_end
from ct3d_edge.training.loop import Loop
from ct3d_edge.training.network import (
    Precision,
    build_untrained,
    compile_for,
    computing_in,
    require_precision,
    weights_of,
    without_training_state,
)
from ct3d_edge.training.presets import DEFAULT, Preset, require_same, settings_of
from ct3d_edge.training.progress import OnProgress, ignore_event
from ct3d_edge.training.splits import chosen_split

LOGGER = logging.getLogger("ct3d_edge.training")

LABEL_OF_FOLDER = {"CT-0": "normal", "CT-23": "abnormal"}
"""What the tutorial calls the two archives of MosMedData."""

LARGEST_SEED = 2**32 - 1


def train(
    folder: Path,
    out: Path,
    preset: Preset = DEFAULT,
    *,
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
    on_progress: OnProgress = ignore_event,
) -> TrainedRun:
    """Train the tutorial's network on the scans in the two class folders of ``folder``.

    The same preset, seed, data and machine give the same losses on a CPU, whether a run was interrupted and resumed
    or not; on a GPU some sums have no fixed order.

    Parameters
    ----------
    folder, validation
        See `split_folder`; 0.3 if None.
    out
        Run folder; made if missing. ``split.json`` and ``contract.json`` appear once all scans are read,
        ``history.csv`` and ``checkpoint.npz`` with every epoch, ``curves.png`` and ``model.keras`` (without
        optimizer state) at the end, when the checkpoint goes.
    preset
        How the network learns.
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
        hold what it says, see `check_folder`.
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
        arguments, as the first thing that it does with TensorFlow. Worker 0 alone keeps files and reports progress.
    tensorboard
        Folder for TensorBoard's event files.
    resume
        Go on with the run that was interrupted in ``out``, if there is one.
    overwrite
        Replace the model and the other files of an earlier run in ``out``.
    on_progress
        Receives a `ScanHashed` and a `ScanRead` a scan and an `EpochDone` an epoch; on a worker that waits for others
        to be started a `WaitingForWorkers`.

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
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"The seed must lie between 0 and {LARGEST_SEED}, found {seed}.")
    require_extra("train", ["matplotlib"])  # before hours of work whose curves it would draw
    require_precision(precision)
    strategy = open_strategy(distribute, on_progress)
    devices, chief = replicas(strategy), is_chief(strategy)
    require_whole_shares(preset.batch_size, devices)
    if chief:
        artifacts.refuse_to_overwrite(out, resume=resume, overwrite=overwrite)
    tell = on_progress if chief else ignore_event
    chosen, unreadable = chosen_split(folder, split, fold, validation, seed, skip_bad, tell)
    contract = _contract(size, orientation, labels, chosen)
    keras.utils.set_random_seed(seed)
    with scope(strategy), computing_in(precision):
        model = build_untrained(contract, preset.momentum, None if initial is None else weights_of(initial, size))
        # In graph mode it is fitted, validated and calibrated; several devices run the same graph.
        note = require_graph_mode(model) if strategy is None else None
    if note:
        LOGGER.warning("WARNING: %s", note)
    watchers = [] if tensorboard is None or not chief else [_tensorboard(tensorboard)]
    with (
        artifacts.open_run_folder(out, lasting=chief) as own,
        prepared_scans(
            folder,
            chosen,
            contract,
            cache or own / artifacts.CACHE,
            tell,
            keep=cache is not None,
            skip_bad=skip_bad,
            unreadable=unreadable,
        ) as arrays,
    ):
        settings = settings_of(preset, seed, contract, arrays.split, initial, precision, devices)
        require_agreement(strategy, {**settings, "resume": resume})
        require_scan_for_each(len(arrays.split.train), len(arrays.split.validation), devices)
        checkpoint = _checkpoint(strategy, own, settings) if resume else None
        if checkpoint is None:
            _begin(own, arrays.split, contract)
        material = TrainingData.of(arrays, contract, preset, seed, devices)
        with scope(strategy):
            compile_for(model, preset, material.training.steps)
            loop = Loop(model, material, preset, own, settings, tell, strategy)
            if checkpoint is not None:
                loop.resume(checkpoint)
            records = loop.run(watchers)
        network = without_training_state(contract, model.get_weights())
        contract, remark = (
            calibrate_at_end(network, material, contract) if preset.calibrate else (contract, UNCALIBRATED)
        )
        contract, told = record_stats_at_end(network, material, contract, folder)
    run = TrainedRun(out, contract, arrays.split, preset, records, arrays.flags, remark, told, chief)
    if chief:
        finish_run(run, network)
    wait_for_all(strategy)
    return run


def _begin(out: Path, split: Split, contract: Contract) -> None:
    artifacts.remove_old_files(out)
    write_split(out / artifacts.SPLIT, split)
    artifacts.write_text(out / artifacts.CONTRACT, contract.to_json())


def _checkpoint(strategy: tf.distribute.Strategy | None, out: Path, settings: dict[str, Any]) -> Checkpoint | None:
    """What an interrupted run left the chief; None if it did not get through its first epoch."""
    file = out / artifacts.CHECKPOINT
    hand_out(strategy, file)
    if not file.exists():
        return None
    checkpoint = read_checkpoint(file)
    require_same(settings, checkpoint.settings, out)
    return checkpoint


def _tensorboard(folder: Path) -> keras.callbacks.Callback:
    require_extra("tensorboard", ["tensorboard"])
    return keras.callbacks.TensorBoard(str(folder), write_graph=False)


def _contract(size: tuple[int, int, int], orientation: str, labels: Sequence[str] | None, split: Split) -> Contract:
    names = [LABEL_OF_FOLDER.get(name, name) for name in split.classes] if labels is None else labels
    if len(names) != len(split.classes):
        raise UsageError(f"{len(split.classes)} labels are needed, for {', '.join(split.classes)}; found {names}.")
    try:
        return Contract(shape=size, orientation=orientation, labels=tuple(names))
    except ContractError as error:
        raise UsageError(str(error)) from error
