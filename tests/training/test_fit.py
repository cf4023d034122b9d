import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.split_file import read_split
from ct3d_edge.training.artifacts import TrainedRun
from ct3d_edge.training.batches import TrainingData
from ct3d_edge.training.data import prepare_scans
from ct3d_edge.training.fit import train
from ct3d_edge.training.history import EpochDone

from .conftest import SMALLEST, FolderMaker, plain
from .distributed_run import SIZE, network

RUN_FILES = ["contract.json", "curves.png", "history.csv", "model.keras", "split.json"]
COLUMNS = ["epoch", "loss", "accuracy", "auc", "val_loss", "val_accuracy", "val_auc", "seconds", "learning_rate"]
TINY = (6, 6, 6)

without_gpu = pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="this machine has a GPU")


def _history(run: TrainedRun) -> list[dict[str, str]]:
    with (run.folder / "history.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def _validation_loss(run: TrainedRun, folder: Path) -> float:
    """Binary cross-entropy of the saved model on the validation scans, from first principles."""
    model = keras.models.load_model(run.model, safe_mode=True)
    losses = []
    for entry in run.split.validation:
        volume = preprocess(read_nifti(folder / entry.path), run.contract).volume
        p = float(model.predict(volume[None, ..., None], verbose=0)[0, 0])
        losses.append(-math.log(p if run.split.label_of(entry) else 1 - p))
    return sum(losses) / len(losses)


@pytest.fixture
def linear_network(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a function that puts a logistic regression in the place of the network: it trains in no time."""

    def install(bias: float = 0.0) -> None:
        def build(*size: int) -> keras.Model:
            dense = keras.layers.Dense(
                1,
                activation="sigmoid",
                kernel_initializer="zeros",
                bias_initializer=keras.initializers.Constant(bias),
            )
            return keras.Sequential([keras.Input((*size, 1)), keras.layers.Flatten(), dense])

        monkeypatch.setattr("ct3d_edge.training.network.NetworkSpec.build", lambda _, *size: build(*size))

    return install


def test_two_epochs_end_to_end(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("CT-0", "CT-23", count=3)
    steps: list[tuple[int, int | None, str]] = []
    epochs: list[EpochDone] = []
    preset = plain(epochs=2)
    run = train(
        folder,
        tmp_path / "run",
        preset,
        size=SMALLEST,
        seed=5,
        progress=lambda *step: steps.append(step),
        on_epoch=epochs.append,
    )
    assert sorted(path.name for path in run.folder.iterdir()) == RUN_FILES
    _check_files(run, folder)
    assert steps == [(n, 6, what) for what in ("Checking scans", "Preparing scans") for n in range(1, 7)]
    assert tuple(event.record for event in epochs) == run.epochs
    assert epochs[0].best
    assert epochs[1].elapsed == pytest.approx(sum(record.seconds for record in run.epochs))
    again = train(folder, tmp_path / "again", preset, size=SMALLEST, seed=5)
    timeless = [{**row, "seconds": ""} for row in _history(run)]
    assert [{**row, "seconds": ""} for row in _history(again)] == timeless


def _check_files(run: TrainedRun, folder: Path) -> None:
    assert Contract.from_json((run.folder / "contract.json").read_text()) == run.contract
    assert (run.contract.shape, run.contract.labels) == (SMALLEST, ("normal", "abnormal"))
    assert read_split(run.folder / "split.json") == run.split
    assert run.split == create_split(folder, seed=5)
    rows = _history(run)
    assert list(rows[0]) == COLUMNS
    assert [float(row["val_loss"]) for row in rows] == [record.val_loss for record in run.epochs]
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert run.epochs[0].learning_rate == pytest.approx(1e-4)
    model = keras.models.load_model(run.model, safe_mode=True)
    assert (model.name, model.input_shape, model.count_params()) == ("3dcnn", (None, *SMALLEST, 1), 1_352_897)
    assert _validation_loss(run, folder) == pytest.approx(run.best.val_loss, rel=1e-4)


def test_best_weights_are_kept_and_patience_ends_the_training(
    make_folder: FolderMaker,
    tmp_path: Path,
    linear_network: Callable[..., None],
) -> None:
    linear_network()
    folder = make_folder("CT-0", "CT-23", count=6)
    _swap_validation_scans(folder)
    events: list[EpochDone] = []
    preset = plain(epochs=50, learning_rate=1e-2, patience=3)
    run = train(folder, tmp_path / "run", preset, size=TINY, on_epoch=events.append)
    # What is learned in training is wrong in validation: the first epoch is the best.
    assert run.best.epoch == 1
    assert len(run.epochs) == 4
    assert [event.best for event in events] == [True, False, False, False]
    assert _validation_loss(run, folder) == pytest.approx(run.best.val_loss, rel=1e-4)


def _swap_validation_scans(folder: Path) -> None:
    scans = [folder / entry.path for entry in create_split(folder).validation]
    contents = [scan.read_bytes() for scan in scans]
    for scan, content in zip(scans, reversed(contents), strict=True):
        scan.write_bytes(content)


def test_a_loss_that_is_no_number_stops_the_training(
    make_folder: FolderMaker, tmp_path: Path, linear_network: Callable[..., None]
) -> None:
    linear_network(bias=math.nan)
    with pytest.raises(DatasetError, match=r"loss became nan in epoch 1, step 1\.(.|\n)*  [ab]/study"):
        train(make_folder("a", "b"), tmp_path / "run", plain(epochs=2), size=TINY)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["contract.json", "split.json"]


def test_unusable_scans_are_named_and_no_model_is_lost(
    make_folder: FolderMaker, tmp_path: Path, linear_network: Callable[..., None]
) -> None:
    linear_network()
    folder = make_folder("a", "b")
    run = train(folder, tmp_path / "run", plain(), size=TINY)
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    (folder / "b" / "study_03.nii.gz").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"1 of 8 scans(.|\n)*b/study_03\.nii\.gz: .* is empty"):
        train(folder, tmp_path / "run", plain(), size=TINY, overwrite=True)
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before


def test_a_finished_run_is_replaced_only_when_asked(
    make_folder: FolderMaker, tmp_path: Path, linear_network: Callable[..., None]
) -> None:
    linear_network()
    folder, out = make_folder("a", "b"), tmp_path / "run"
    first = train(folder, out, plain(), size=TINY)
    model = first.model.read_bytes()
    with pytest.raises(UsageError, match=r"already holds a trained model\.keras"):
        train(folder, out, plain(), size=TINY)
    assert first.model.read_bytes() == model
    (out / "comparison.json").touch()  # of the weights that go
    second = train(folder, out, plain(), size=(7, 7, 7), overwrite=True)
    assert keras.models.load_model(second.model, safe_mode=True).input_shape == (None, 7, 7, 7, 1)
    assert sorted(path.name for path in out.iterdir()) == RUN_FILES


def test_labels_and_orientation_reach_the_contract(
    make_folder: FolderMaker, tmp_path: Path, linear_network: Callable[..., None]
) -> None:
    linear_network()
    folder = make_folder("sick", "normal")
    usual = train(folder, tmp_path / "usual", plain(), size=TINY)
    assert (usual.contract.labels, usual.contract.orientation) == (("normal", "sick"), "LAS")
    named = train(folder, tmp_path / "named", plain(), size=TINY, labels=["well", "ill"], orientation="stored")
    assert (named.contract.labels, named.contract.orientation) == (("well", "ill"), "stored")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": -1}, "seed must lie between 0 and 4294967295, found -1"),
        ({"validation": 1.5}, "validation fraction must lie between 0 and 1"),
        pytest.param({"precision": "mixed_float16"}, "`precision=mixed_float16` needs a GPU", marks=without_gpu),
        ({"size": (46, 46, 45)}, "input depth is 45 voxels"),
        ({"orientation": "LLS"}, "orientation must be 'stored' or an axis code"),
        ({"labels": ["one"]}, "2 labels are needed"),
        ({"labels": ["same", "same"]}, "labels must be two or more different printable names"),
    ],
)
def test_arguments_out_of_range_leave_no_folder(
    make_folder: FolderMaker, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        train(make_folder("a", "b"), tmp_path / "run", **change)
    assert not (tmp_path / "run").exists()


def test_a_file_is_no_run_folder(make_folder: FolderMaker, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file is a file"):
        train(make_folder("a", "b"), tmp_path / "file")
    with pytest.raises(UsageError, match="Cannot make the folder"):
        train(make_folder("a", "b"), tmp_path / "file" / "run", size=SMALLEST)


def test_the_split_of_a_run_is_that_of_its_seed(
    make_folder: FolderMaker, tmp_path: Path, linear_network: Callable[..., None]
) -> None:
    linear_network()
    folder = make_folder("a", "b", count=10)
    runs = [train(folder, tmp_path / f"run{n}", plain(), size=TINY, seed=n) for n in range(2)]
    assert runs[0].split.validation != runs[1].split.validation
    assert np.isfinite([run.best.val_loss for run in runs]).all()


def test_event_files_for_tensorboard(
    make_folder: FolderMaker, tmp_path: Path, linear_network: Callable[..., None]
) -> None:
    linear_network()
    train(make_folder("a", "b"), tmp_path / "run", plain(epochs=2), size=TINY, tensorboard=tmp_path / "board")
    (events,) = (tmp_path / "board" / "validation").glob("events.out.tfevents.*")
    assert b"epoch_auc" in events.read_bytes()


def test_class_weights_of_the_training_scans(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("a", "b", count=8)
    for n in range(2, 8):
        (folder / "b" / f"study_{n:02}.nii.gz").unlink()
    split = create_split(folder, validation=0.5)
    contract = Contract(shape=TINY)
    with prepare_scans(folder, split, contract, tmp_path / "cache") as arrays:
        weights = TrainingData.of(arrays, contract, plain(class_weights=True), seed=0).class_weights
    assert [split.count("train", name) for name in "ab"] == [4, 1]
    assert weights == {0: 5 / 8, 1: 5 / 2}


def test_class_weights_reach_the_loss(
    make_folder: FolderMaker, tmp_path: Path, linear_network: Callable[..., None]
) -> None:
    """A network that says nearly 0 of everything errs on class b alone, which has a fifth of the scans."""
    linear_network(bias=-4.0)
    folder = make_folder("a", "b", count=8)
    for n in range(2, 8):
        (folder / "b" / f"study_{n:02}.nii.gz").unlink()
    losses = []
    for weighted in (False, True):
        preset = plain(learning_rate=1e-12, batch_size=5, class_weights=weighted)
        run = train(folder, tmp_path / f"run-{weighted}", preset, size=TINY, validation=0.5)
        losses.append(run.best.loss)
    wrong, right = -math.log(1 / (1 + math.exp(4))), -math.log(1 - 1 / (1 + math.exp(4)))
    assert losses == pytest.approx([(4 * right + wrong) / 5, (4 * 5 / 8 * right + 5 / 2 * wrong) / 5], rel=1e-4)


def test_half_precision_trains_on_a_cpu_and_saves_float32(
    make_folder: FolderMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.training.network.NetworkSpec.build", lambda _, *size: network(*size))
    folder = make_folder("a", "b")
    whole, half = (
        train(folder, tmp_path / name, plain(epochs=2, learning_rate=1e-2), size=SIZE, precision=name)
        for name in ("float32", "mixed_bfloat16")
    )
    assert half.epochs[0].loss != whole.epochs[0].loss
    assert half.best.val_loss == pytest.approx(whole.best.val_loss, abs=0.02)
    saved = keras.saving.load_model(half.model)
    assert {weight.dtype for weight in saved.weights} == {"float32"}
    assert {layer.compute_dtype for layer in saved.layers} == {"float32"}
    assert _validation_loss(half, folder) == pytest.approx(half.best.val_loss, abs=0.01)
