"""What a run's contract knows of its training scans, compared with a look at the files of the run."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ct3d_edge.contract import Contract
from ct3d_edge.evaluation.fit_temperature import calibrate_run
from ct3d_edge.keras_backend import with_pooled_features
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.quality_control.reference_stats import fit_feature_statistics
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.splits.split import SplitEntry
from ct3d_edge.training.artifacts import TrainedRun
from ct3d_edge.training.fit import train

from .conftest import FolderMaker, plain

TINY = (6, 6, 6)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of the tutorial's kind that trains in no time."""

    def build(*size: int) -> keras.Model:
        volume = keras.Input((*size, 1))
        features = keras.layers.Conv3D(5, 3, activation="relu")(volume)
        pooled = keras.layers.GlobalAveragePooling3D()(keras.layers.BatchNormalization()(features))
        return keras.Model(volume, keras.layers.Dense(1, activation="sigmoid")(pooled))

    monkeypatch.setattr("ct3d_edge.training.network.NetworkSpec.build", lambda _, *size: build(*size))


@pytest.fixture
def folder(make_folder: FolderMaker) -> Path:
    return make_folder("a", "b", count=20)


@pytest.fixture
def trained(folder: Path, tmp_path: Path) -> TrainedRun:
    return train(folder, tmp_path / "run", plain(augmentation="small-changes"), size=TINY, cache=tmp_path / "cache")


def features(run: TrainedRun, folder: Path, entries: tuple[SplitEntry, ...]) -> Any:
    """One by one, from the files."""
    pooling = with_pooled_features(keras.saving.load_model(run.model, compile=False))
    assert pooling is not None
    volumes = [preprocess(open_scan(folder / entry.path), run.contract).volume for entry in entries]
    return np.concatenate([np.asarray(pooling(volume[None, ..., None], training=False)[0]) for volume in volumes])


def close(found: Contract, taught: Any, held_out: Any) -> None:
    """Statistics come out the same but for sums in another order; directions may turn where variances are equal."""
    expected, given = fit_feature_statistics(taught, held_out), found.feature_statistics
    assert given is not None
    assert given.mean == pytest.approx(expected.mean, rel=1e-3)
    assert given.variances == pytest.approx(expected.variances, rel=1e-2)
    assert given.threshold == pytest.approx(expected.threshold, rel=1e-2)
    assert (given.scans, given.held_out) == (len(taught), len(held_out))


def test_training_records_what_its_scans_were_like(trained: TrainedRun, folder: Path) -> None:
    written = Contract.from_json((trained.folder / "contract.json").read_text())
    assert written == trained.contract
    assert [line.split(":")[0] for line in trained.reference_stats] == ["training range", "feature statistics"]
    split = trained.split
    close(written, features(trained, folder, split.train), features(trained, folder, split.validation))
    assert written.training_range is not None
    assert written.training_range.scans == len(split.train) == 28
    assert written.training_range.extent_mm == ((12, 12), (12, 12), (10, 10))


def test_a_run_with_few_scans_says_why_it_records_nothing(make_folder: FolderMaker, tmp_path: Path) -> None:
    run = train(make_folder("a", "b", count=4), tmp_path / "run", plain(), size=TINY)
    assert run.contract.without_training_stats == run.contract
    assert "fewer than 10" in run.reference_stats[0]
    assert "too few" in run.reference_stats[1]


def forget(run: TrainedRun) -> Path:
    """As an older version left it."""
    (run.folder / "contract.json").write_text(run.contract.without_training_stats.to_json())
    return run.folder


@pytest.mark.parametrize("cached", [True, False])
def test_calibrating_records_what_an_older_run_did_not(
    trained: TrainedRun, folder: Path, tmp_path: Path, cached: bool
) -> None:
    cache = tmp_path / "cache" if cached else None
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    made = calibrate_run(forget(trained), folder, cache=cache)
    after = Contract.from_json((trained.folder / "contract.json").read_text())
    split = trained.split
    close(after, features(trained, folder, split.train), features(trained, folder, split.validation))
    assert after.training_range == trained.contract.training_range
    assert len(made.reference_stats) == 2
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == before, "used as they are"


def test_calibrating_again_looks_at_the_training_scans_only_if_asked(trained: TrainedRun, folder: Path) -> None:
    for entry in trained.split.train:
        (folder / entry.path).write_bytes(b"another scan by now")
    made = calibrate_run(trained.folder, folder)
    after = Contract.from_json((trained.folder / "contract.json").read_text())
    assert made.reference_stats == ()
    assert after.feature_statistics == trained.contract.feature_statistics
    made = calibrate_run(trained.folder, folder, anew=True)
    assert made.reference_stats[0].startswith("no statistics of the training scans: ")
    again = Contract.from_json((trained.folder / "contract.json").read_text())
    assert again == after
    made = calibrate_run(forget(trained), folder)
    assert made.reference_stats[0].startswith("no statistics of the training scans: ")
