"""From two folders of scans to a trained run: ``model.keras``, its contract, its history and its split."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from ct3d_edge.atomic import make_folder
from ct3d_edge.cohort import (
    VALIDATION_FRACTION,
    LeftOut,
    Split,
    check_folder,
    read_split,
    require_every_class,
    split_folder,
    write_split,
)
from ct3d_edge.contract import Contract
from ct3d_edge.errors import ContractError, UsageError
from ct3d_edge.training import run_folder
from ct3d_edge.training.architecture import build_model
from ct3d_edge.training.callbacks import FiniteLoss, Journal
from ct3d_edge.training.dataset import ScanArrays, batches, prepared_scans
from ct3d_edge.training.progress import EpochDone, EpochRecord, OnProgress, silent

LEARNING_RATE = 1e-4
DECAY_STEPS, DECAY_RATE = 100_000, 0.96
MOMENTUM = 0.99
PATIENCE = 15
"""Epochs without a lower validation loss. All five, and `train`'s defaults, are the published tutorial's."""

LABEL_OF_FOLDER = {"CT-0": "normal", "CT-23": "abnormal"}
"""What the tutorial calls the two archives of MosMedData."""

LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished training run.

    Parameters
    ----------
    folder
        Where its files lie.
    contract
        What the model expects of a volume.
    split
        Which scans it was trained and validated on.
    epochs
        Figures of every epoch.
    findings
        How many scans have each finding, by its code.
    """

    folder: Path
    contract: Contract
    split: Split
    epochs: tuple[EpochRecord, ...]
    findings: Mapping[str, int]

    @property
    def best(self) -> EpochRecord:
        """The epoch whose weights ``model.keras`` holds: that of the lowest validation loss."""
        return min(self.epochs, key=lambda record: record.val_loss)

    @property
    def model(self) -> Path:
        """Path of ``model.keras``."""
        return self.folder / run_folder.MODEL


def train(
    folder: Path,
    out: Path,
    *,
    size: tuple[int, int, int] = Contract.shape,
    orientation: str = Contract.orientation,
    labels: Sequence[str] | None = None,
    epochs: int = 100,
    batch_size: int = 2,
    seed: int = 0,
    validation: float | None = None,
    split: Path | None = None,
    fold: int | None = None,
    skip_bad: bool = False,
    cache: Path | None = None,
    learning_rate: float = LEARNING_RATE,
    momentum: float = MOMENTUM,
    initial: Path | None = None,
    overwrite: bool = False,
    on_progress: OnProgress = silent,
) -> TrainedRun:
    """Train the tutorial's network on the scans in the two class folders of ``folder``.

    As published, but seeded, without augmentation, and with one criterion for both decisions: training stops
    after 15 epochs without a lower validation loss, and the weights of the epoch with the lowest are kept.
    The same seed, data and machine give the same losses on a CPU; on a GPU some sums have no fixed order.

    Parameters
    ----------
    folder, validation
        See `split_folder`; 0.3 if None.
    out
        Run folder; made if missing. ``split.json`` and ``contract.json`` appear once all scans are read,
        ``history.csv`` grows with every epoch, ``model.keras`` (without optimizer state) appears at the end.
    size
        Network input ``(W, H, D)`` in voxels.
    orientation
        Axis code to which scans are turned, or ``"stored"``; see `Contract`.
    labels
        Names of the two classes in the order of the split; None takes the folder names, with CT-0 called
        normal and CT-23 abnormal.
    epochs, batch_size
        Passes over the data at most; scans per step.
    seed
        0 to 2**32 - 1; draws the split, the weights, the order of the scans and the dropout.
    split
        Split file of ``folder`` to follow instead of drawing one; its test subset is not read. ``folder`` must
        hold what it says, see `check_folder`.
    fold
        Validate on this fold of the split file, train on the others.
    skip_bad
        Go on without scans that cannot be used; ``split.json`` of the run names them.
    cache
        Folder that keeps the prepared scans for other runs; None prepares them in ``out`` until the run ends.
    learning_rate
        Of Adam at the start; times 0.96 every 100,000 steps.
    momentum
        Of batch normalisation's running statistics, which validation and inference use: 0.99 follows the network
        with a lag of some 100 steps, 0.9 of 10. With few steps an epoch a long lag makes good weights look bad.
    initial
        A .keras file of the same network, at any input size, whose weights training starts from.
    overwrite
        Replace the model and the other files of an earlier run in ``out``.
    on_progress
        Receives a `ScanHashed` and a `ScanRead` a scan and an `EpochDone` an epoch.

    Raises
    ------
    UsageError
        An argument is out of its range, ``out`` holds a trained model, or cannot be written to.
    DatasetError
        ``folder`` cannot be split or is not that of the split file, scans in it cannot be used, or the loss became
        NaN or infinite.
    """
    _require_ranges(epochs, batch_size, seed, learning_rate)
    if not 0 <= momentum < 1:
        raise UsageError(f"The momentum must be at least 0 and below 1, found {momentum}.")
    run_folder.refuse_finished_run(out, overwrite)
    chosen, unreadable = _split(folder, split, fold, validation, seed, skip_bad, on_progress)
    contract = _contract(size, orientation, labels, chosen)
    keras.utils.set_random_seed(seed)
    model = _compiled(contract, learning_rate, momentum)
    if initial is not None:
        _start_from(model, initial)
    place = cache or out / run_folder.CACHE
    make_folder(out)
    with prepared_scans(
        folder, chosen, contract, place, on_progress, keep=cache is not None, skip_bad=skip_bad, unreadable=unreadable
    ) as arrays:
        used = arrays.split or chosen
        run_folder.remove_old_files(out)
        write_split(out / run_folder.SPLIT, used)
        run_folder.write_text(out / run_folder.CONTRACT, contract.to_json())
        records = _fit(
            model, arrays, used, out=out, epochs=epochs, batch_size=batch_size, seed=seed, on_progress=on_progress
        )
    run_folder.write_model(out / run_folder.MODEL, _without_optimizer(model, contract))
    return TrainedRun(out, contract, used, records, arrays.findings)


def _split(
    folder: Path,
    file: Path | None,
    fold: int | None,
    validation: float | None,
    seed: int,
    skip_bad: bool,
    on_progress: OnProgress,
) -> tuple[Split, tuple[LeftOut, ...]]:
    """Draw a split, or follow the one in a file; and scans that this found unreadable."""
    if file is None:
        if fold is not None:
            raise UsageError("A fold belongs to a split file: name one (--split).")
        share = VALIDATION_FRACTION if validation is None else validation
        # Bad scans are left out here in any case: reading the others names them all at once.
        drawn = split_folder(folder, seed=seed, validation=share, skip_bad=True, on_hashed=on_progress)
        return drawn, drawn.left_out
    if validation is not None:
        raise UsageError("The validation share is that of the split file; name one or the other.")
    split = read_split(file)
    split = split if fold is None else split.for_fold(fold)
    require_every_class(split)
    return check_folder(split, folder, ("train", "validation"), skip_bad=skip_bad, on_hashed=on_progress), ()


def _fit(
    model: keras.Model,
    arrays: ScanArrays,
    split: Split,
    *,
    out: Path,
    epochs: int,
    batch_size: int,
    seed: int,
    on_progress: OnProgress,
) -> tuple[EpochRecord, ...]:
    """Train until the epochs or the patience are over; the model then holds its best weights."""
    records: list[EpochRecord] = []

    def on_epoch(record: EpochRecord) -> None:
        best = all(record.val_loss < earlier.val_loss for earlier in records)
        records.append(record)
        run_folder.write_history(out / run_folder.HISTORY, records)
        on_progress(EpochDone(record, epochs, best))

    stop = keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE, mode="min", restore_best_weights=True)
    border = len(split.train)
    model.fit(
        batches(arrays, range(border), batch_size, shuffle_seed=seed),
        validation_data=batches(arrays, range(border, border + len(split.validation)), batch_size),
        epochs=epochs,
        callbacks=[FiniteLoss(), Journal(on_epoch), stop],
        shuffle=False,  # the pipeline does it
        verbose=0,
    )
    return tuple(records)


def _compiled(contract: Contract, learning_rate: float, momentum: float) -> keras.Model:
    schedule = keras.optimizers.schedules.ExponentialDecay(learning_rate, DECAY_STEPS, DECAY_RATE, staircase=True)
    model = build_model(*contract.shape)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    model.compile(keras.optimizers.Adam(schedule), loss="binary_crossentropy", metrics=["accuracy"])
    return model


def _start_from(model: keras.Model, initial: Path) -> None:
    """Take over the weights of an earlier run; the network has the same ones at every input size."""
    try:
        model.set_weights(keras.saving.load_model(initial, compile=False, safe_mode=True).get_weights())
    except Exception as error:  # Keras, zipfile and h5py raise whatever they like for a damaged or unknown file
        raise UsageError(f"Cannot start from the weights in {initial}: {error}") from error


def _without_optimizer(model: keras.Model, contract: Contract) -> keras.Model:
    """Copy the network alone: Adam's moments belong to the last epoch, not the best, and double its size."""
    bare = build_model(*contract.shape)
    bare.set_weights(model.get_weights())
    return bare


def _contract(size: tuple[int, int, int], orientation: str, labels: Sequence[str] | None, split: Split) -> Contract:
    names = [LABEL_OF_FOLDER.get(name, name) for name in split.classes] if labels is None else labels
    if len(names) != len(split.classes):
        raise UsageError(f"{len(split.classes)} labels are needed, for {', '.join(split.classes)}; found {names}.")
    try:
        return Contract(shape=size, orientation=orientation, labels=tuple(names))
    except ContractError as error:
        raise UsageError(str(error)) from error


def _require_ranges(epochs: int, batch_size: int, seed: int, learning_rate: float) -> None:
    for name, value in (("epochs", epochs), ("batch size", batch_size)):
        if value < 1:
            raise UsageError(f"The {name} must be at least 1, found {value}.")
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"The seed must lie between 0 and {LARGEST_SEED}, found {seed}.")
    if not (math.isfinite(learning_rate) and learning_rate > 0):
        raise UsageError(f"The learning rate must be a positive number, found {learning_rate}.")
