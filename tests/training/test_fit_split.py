"""Training on a split file: what it uses, what it never opens, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import pytest

from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.scan.volume import Volume
from ct3d_edge.splits import folder as split_folders
from ct3d_edge.splits import prepared_cache
from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.split import Split
from ct3d_edge.splits.split_file import read_split, to_json, write_split
from ct3d_edge.training.artifacts import TrainedRun
from ct3d_edge.training.fit import train

from .conftest import FolderMaker, plain

TINY = (6, 6, 6)


@pytest.fixture(autouse=True)
def quick_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*size: int) -> keras.Model:
        layers = [keras.Input((*size, 1)), keras.layers.Flatten(), keras.layers.Dense(1, activation="sigmoid")]
        return keras.Sequential(layers)

    monkeypatch.setattr("ct3d_edge.training.network.NetworkSpec.build", lambda _, *size: build(*size))


@pytest.fixture
def folder(make_folder: FolderMaker) -> Path:
    return make_folder("CT-0", "CT-23", count=8)


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    """A split of ``folder`` with three folds and a test subset."""
    write_split(tmp_path / "split.json", create_split(folder, validation=0.25, test=0.25, folds=3))
    return tmp_path / "split.json"


Fit = Callable[..., TrainedRun]


@pytest.fixture
def fit(folder: Path, tmp_path: Path) -> Fit:
    def call(**options: Any) -> TrainedRun:
        return train(folder, tmp_path / "run", plain(), size=TINY, overwrite=True, **options)

    return call


def _recorded(run: TrainedRun) -> Split:
    return read_split(run.folder / "split.json")


def test_the_split_of_the_file_is_the_split_of_the_run(fit: Fit, file: Path) -> None:
    run = fit(split=file, seed=99)
    assert run.split == read_split(file)
    assert (run.folder / "split.json").read_bytes() == file.read_bytes()


def test_the_test_subset_is_never_opened(fit: Fit, file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def read(path: Path) -> Volume:
        opened.append(path.relative_to(folder).as_posix())
        return read_nifti(path)

    def hash_(path: Path) -> str:
        opened.append(path.relative_to(folder).as_posix())
        return content_sha256(path)

    monkeypatch.setattr(prepared_cache, "open_scan", read)
    monkeypatch.setattr(split_folders, "content_sha256", hash_)
    run = fit(split=file)
    assert set(opened) == {entry.path for entry in run.split.train + run.split.validation}
    # Once to compare its content, once to prepare it.
    assert len(opened) == 2 * 12


def test_a_fold_is_validated_on(fit: Fit, file: Path) -> None:
    run = fit(split=file, fold=1)
    whole = read_split(file)
    assert {entry.path for entry in run.split.validation} == {e.path for e in whole.entries if e.fold == 1}
    assert {entry.path for entry in run.split.train} == {e.path for e in whole.entries if e.fold in (0, 2)}
    assert run.split.test == whole.test
    assert _recorded(run) == run.split


def test_without_a_file_the_run_writes_the_same_kind_of_file(fit: Fit, folder: Path) -> None:
    run = fit(seed=3)
    assert (run.folder / "split.json").read_text() == to_json(create_split(folder, seed=3))
    again = fit(split=run.folder / "split.json")
    assert again.split == run.split


def test_duplicates_are_left_out_and_recorded(fit: Fit, folder: Path) -> None:
    (folder / "CT-0" / "zcopy.nii.gz").write_bytes((folder / "CT-0" / "study_02.nii.gz").read_bytes())
    run = fit()
    assert [duplicate.path for duplicate in _recorded(run).duplicates] == ["CT-0/zcopy.nii.gz"]
    assert len(run.split.entries) == 16


def _remove(folder: Path, split: Split) -> None:
    (folder / split.train[0].path).unlink()


def _change(folder: Path, split: Split) -> None:
    (folder / split.validation[0].path).write_bytes((folder / split.train[0].path).read_bytes())


def _add(folder: Path, split: Split) -> None:
    (folder / "CT-0" / "new.nii").write_bytes(b"new")


@pytest.mark.parametrize("options", [{}, {"skip_bad": True}, {"fold": 0}])
@pytest.mark.parametrize(
    ("alter", "message"), [(_remove, "1 .* missing"), (_change, "1 .* changed since"), (_add, "1 .* not in the split")]
)
def test_a_folder_that_is_not_that_of_the_file(
    fit: Fit,
    file: Path,
    folder: Path,
    tmp_path: Path,
    alter: Callable[[Path, Split], None],
    message: str,
    options: dict[str, Any],
) -> None:
    alter(folder, read_split(file))
    with pytest.raises(DatasetError, match=message):
        fit(split=file, **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 0}, "A fold belongs to a split file"),
        ({"fold": 3, "split": "file"}, "no fold 3: the split has folds 0 to 2"),
        ({"validation": 0.3, "split": "file"}, "The validation share is that of the split file"),
    ],
)
def test_options_that_contradict_each_other(fit: Fit, file: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit(**{**options, **({"split": file} if "split" in options else {})})


def test_a_split_file_without_validation_scans(fit: Fit, file: Path) -> None:
    data = json.loads(file.read_text())
    for entry in data["entries"]:
        entry["subset"] = "train" if entry["subset"] == "validation" else entry["subset"]
    file.write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="Class CT-0 needs scans for both training and validation"):
        fit(split=file)


# Scans that cannot be used -----------------------------------------------------------------------------------


def _spoil(folder: Path) -> None:
    """One scan without a byte in it, one that is none."""
    (folder / "CT-0" / "study_03.nii.gz").write_bytes(b"")
    (folder / "CT-23" / "study_05.nii.gz").write_bytes(b"no scan" * 100)


def test_bad_scans_are_counted_and_named_together(fit: Fit, folder: Path) -> None:
    _spoil(folder)
    with pytest.raises(DatasetError, match=r"^2 of 16 scans cannot be used.*`skip_bad=True`") as caught:
        fit()
    assert "CT-0/study_03.nii.gz: study_03.nii.gz is empty" in str(caught.value)
    assert "CT-23/study_05.nii.gz: study_05.nii.gz is not a NIfTI file" in str(caught.value)


def test_bad_scans_are_left_out_when_asked_and_recorded(fit: Fit, folder: Path) -> None:
    _spoil(folder)
    run = fit(skip_bad=True)
    assert len(run.split.train + run.split.validation) == 14
    recorded = _recorded(run)
    assert [(scan.path, scan.code) for scan in recorded.left_out] == [
        ("CT-0/study_03.nii.gz", "empty"),
        ("CT-23/study_05.nii.gz", "not_nifti"),
    ]
    # What was agreed to once need not be asked for again.
    assert fit(split=run.folder / "split.json").split == recorded


def test_bad_scans_of_a_split_file(fit: Fit, folder: Path, tmp_path: Path) -> None:
    (folder / "CT-23" / "study_05.nii.gz").write_bytes(b"no scan" * 100)
    write_split(tmp_path / "split.json", create_split(folder, test=0.0))
    with pytest.raises(DatasetError, match=r"1 of 16 scans cannot be used(.|\n)*CT-23/study_05"):
        fit(split=tmp_path / "split.json")
    run = fit(split=tmp_path / "split.json", skip_bad=True)
    assert [scan.path for scan in _recorded(run).left_out] == ["CT-23/study_05.nii.gz"]


# Cache -------------------------------------------------------------------------------------------------------


def test_a_cache_serves_the_next_run(fit: Fit, file: Path, tmp_path: Path) -> None:
    written = []
    for fold in (0, 1):
        run = fit(split=file, fold=fold, cache=tmp_path / "cache")
        written.append({path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()})
        assert sorted(path.name for path in run.folder.iterdir()) == [
            "contract.json",
            "curves.png",
            "history.csv",
            "model.keras",
            "split.json",
        ]
    assert len(written[0]) == 12
    assert written[0] == written[1]


@pytest.mark.slow
def test_the_cache_makes_no_difference_to_the_run(fit: Fit, tmp_path: Path) -> None:
    losses = [fit(**options).epochs[0].val_loss for options in ({}, *[{"cache": tmp_path / "cache"}] * 2)]
    assert losses[0] == losses[1] == losses[2]
