"""A run that was interrupted goes on to the very same end, or says why not."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.training.artifacts import TrainedRun
from ct3d_edge.training.checkpoint import settings_of
from ct3d_edge.training.fit import train
from ct3d_edge.training.history import EpochDone

from .conftest import SMALLEST, FolderMaker, plain

PRESET = plain(epochs=4, augmentation="small-changes", schedule="cosine", class_weights=True)
TINY = (6, 6, 6)


@pytest.fixture
def linear_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*size: int) -> keras.Model:
        layers = [keras.Input((*size, 1)), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
        return keras.Sequential(layers)

    monkeypatch.setattr("ct3d_edge.training.network.NetworkSpec.build", lambda _, *size: build(*size))


def _interrupted_after(epochs: int, *arguments: Any, **options: Any) -> None:
    def stop(event: EpochDone) -> None:
        if event.record.epoch == epochs:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(*arguments, **options, on_epoch=stop)


def _figures(run: TrainedRun) -> list[tuple[float, ...]]:
    """Of every epoch, but not how long it took."""
    return [(r.loss, r.accuracy, r.auc, r.val_loss, r.val_accuracy, r.val_auc, r.learning_rate) for r in run.epochs]


def _weights(run: TrainedRun) -> list[np.ndarray]:
    weights: list[np.ndarray] = keras.saving.load_model(run.model, compile=False).get_weights()
    return weights


@pytest.mark.slow
def test_an_interrupted_run_ends_as_if_it_had_not_been(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("a", "b", count=5)
    whole = train(folder, tmp_path / "whole", PRESET, size=SMALLEST, seed=3)
    _interrupted_after(2, folder, tmp_path / "run", PRESET, size=SMALLEST, seed=3)
    events: list[EpochDone] = []
    resumed = train(folder, tmp_path / "run", PRESET, size=SMALLEST, seed=3, resume=True, on_epoch=events.append)
    assert [event.record.epoch for event in events] == [3, 4]
    assert events[-1].elapsed == sum(record.seconds for record in resumed.epochs)
    assert _figures(resumed) == _figures(whole)
    for ours, theirs in zip(_weights(resumed), _weights(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert sorted(path.name for path in resumed.folder.iterdir()) == sorted(p.name for p in whole.folder.iterdir())


SCRIPT = """
import sys, time
from pathlib import Path
from ct3d_edge.training.fit import train
from training.conftest import plain

def slow(event):
    time.sleep(0.5)

folder, out = map(Path, sys.argv[1:])
train(folder, out, plain(epochs=60, patience=60), size=(46, 46, 46), on_epoch=slow)
"""


@pytest.mark.slow
def test_a_killed_run_is_resumed(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder, out = make_folder("a", "b", count=3), tmp_path / "run"
    tests = str(Path(__file__).parents[1])
    arguments = [sys.executable, "-c", f"import sys; sys.path.insert(0, {tests!r})\n{SCRIPT}", str(folder), str(out)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (out / "history.csv").exists():
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len((out / "history.csv").read_text().splitlines()) - 1
    preset = plain(epochs=60, patience=60)
    epochs: list[int] = []

    def stop_soon(event: EpochDone) -> None:
        epochs.append(event.record.epoch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(folder, out, preset, size=SMALLEST, resume=True, on_epoch=stop_soon)
    assert epochs[-1] in (done + 1, done + 2)  # it may have been killed between checkpoint and history


@pytest.mark.slow
def test_a_run_that_was_stopped_before_its_model_was_written(
    make_folder: FolderMaker, tmp_path: Path, linear_network: None
) -> None:
    folder, out = make_folder("a", "b"), tmp_path / "run"
    _interrupted_after(4, folder, out, PRESET, size=TINY)
    resumed = train(folder, out, PRESET, size=TINY, resume=True)
    whole = train(folder, tmp_path / "whole", PRESET, size=TINY)
    assert _figures(resumed) == _figures(whole)
    assert not (out / "checkpoint.npz").exists()


def test_nothing_to_resume_is_said_and_nothing_begun(
    make_folder: FolderMaker, tmp_path: Path, linear_network: None
) -> None:
    folder, out = make_folder("a", "b"), tmp_path / "run"
    with pytest.raises(UsageError, match="holds no interrupted run"):
        train(folder, out, plain(), size=TINY, resume=True)
    assert not out.exists()


def test_a_run_that_ended_before_its_first_epoch_is_begun_again(
    make_folder: FolderMaker, tmp_path: Path, linear_network: None
) -> None:
    folder, out = make_folder("a", "b"), tmp_path / "run"
    train(folder, out, plain(), size=TINY)
    (out / "model.keras").unlink()
    assert len(train(folder, out, plain(), size=TINY, resume=True).epochs) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1}, r"seed was 0, now 1.*split_sha256"),
        ({"preset": plain(epochs=4, learning_rate=1.0)}, "learning_rate was 0.0001, now 1.0"),
        ({"size": (7, 6, 6)}, "contract_sha256 was"),
        ({"precision": "mixed_bfloat16"}, "precision was 'float32', now 'mixed_bfloat16'"),
        ({"overwrite": True}, "give one of them"),
    ],
)
def test_another_run_is_not_taken_for_the_same(
    make_folder: FolderMaker, tmp_path: Path, linear_network: None, options: dict[str, Any], message: str
) -> None:
    folder, out = make_folder("a", "b"), tmp_path / "run"
    _interrupted_after(1, folder, out, plain(epochs=4), size=TINY)
    before = (out / "checkpoint.npz").read_bytes()
    with pytest.raises(UsageError, match=message):
        train(folder, out, **{"preset": plain(epochs=4), "size": TINY, "resume": True, **options})
    assert (out / "checkpoint.npz").read_bytes() == before


def test_an_interrupted_run_is_not_lost_by_accident(
    make_folder: FolderMaker, tmp_path: Path, linear_network: None
) -> None:
    folder, out = make_folder("a", "b"), tmp_path / "run"
    _interrupted_after(1, folder, out, plain(epochs=4), size=TINY)
    with pytest.raises(UsageError, match=r"holds an interrupted run\. Go on with it: `resume=True`"):
        train(folder, out, plain(epochs=4), size=TINY)
    assert len(train(folder, out, plain(epochs=2), size=TINY, overwrite=True).epochs) == 2


def test_a_complete_run_has_nothing_to_go_on_with(
    make_folder: FolderMaker, tmp_path: Path, linear_network: None
) -> None:
    folder, out = make_folder("a", "b"), tmp_path / "run"
    train(folder, out, plain(), size=TINY)
    with pytest.raises(UsageError, match=r"holds a trained model\.keras\. That run is complete"):
        train(folder, out, plain(), size=TINY, resume=True)


def test_a_checkpoint_from_before_there_were_several_networks(
    make_folder: FolderMaker, tmp_path: Path, linear_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = make_folder("a", "b"), tmp_path / "run"

    def settings_before(network: str, *others: Any) -> dict[str, Any]:
        return {name: value for name, value in settings_of(network, *others).items() if name != "network"}

    with monkeypatch.context() as patch:
        patch.setattr("ct3d_edge.training.fit.settings_of", settings_before)
        _interrupted_after(1, folder, out, plain(epochs=2), size=TINY)
    with pytest.raises(UsageError, match="network was 'tutorial', now 'narrow'"):
        train(folder, out, plain(epochs=2), network="narrow", size=TINY, resume=True)
    assert len(train(folder, out, plain(epochs=2), size=TINY, resume=True).epochs) == 2


@pytest.mark.parametrize("keep", [0, 100, -30])
def test_a_damaged_checkpoint_is_refused(
    make_folder: FolderMaker, tmp_path: Path, linear_network: None, keep: int
) -> None:
    folder, out = make_folder("a", "b"), tmp_path / "run"
    _interrupted_after(1, folder, out, plain(epochs=4), size=TINY)
    file = out / "checkpoint.npz"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"checkpoint\.npz is damaged"):
        train(folder, out, plain(epochs=4), size=TINY, resume=True)
