"""Shares, seeds and order: what decides where a scan stands, and what must not."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.split import Split, SplitEntry, require_every_class
from ct3d_edge.splits.split_file import to_json

from .conftest import Fill


def paths(entries: Sequence[SplitEntry]) -> list[str]:
    return [entry.path for entry in entries]


def counts(split: Split, label: str) -> tuple[int, int, int]:
    return split.count("train", label), split.count("validation", label), split.count("test", label)


def test_each_class_gives_its_share(fill: Fill) -> None:
    split = create_split(fill({"CT-0": 100, "CT-23": 50}), validation=0.15, test=0.15)
    assert counts(split, "CT-0") == (70, 15, 15)
    assert counts(split, "CT-23") == (34, 8, 8)


def test_without_a_test_share_there_is_none(fill: Fill) -> None:
    split = create_split(fill({"CT-0": 100, "CT-23": 50}))
    assert (counts(split, "CT-0"), counts(split, "CT-23")) == ((70, 30, 0), (35, 15, 0))


def test_every_scan_is_there_once_with_its_class_and_content(fill: Fill) -> None:
    folder = fill({"CT-0": 20, "CT-23": 30})
    split = create_split(folder, test=0.2)
    assert sorted(paths(split.entries)) == sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.nii.gz"))
    assert sorted(split.train + split.validation + split.test, key=split.entries.index) == list(split.entries)
    for entry in split.entries:
        assert entry.path.startswith(f"{entry.label}/")
        assert entry.sha256 == hashlib.sha256((folder / entry.path).read_bytes()).hexdigest()


def test_the_seed_decides(fill: Fill) -> None:
    folder = fill({"CT-0": 20, "CT-23": 20})
    assert create_split(folder, seed=1) == create_split(folder, seed=1)
    assert create_split(folder, seed=1).validation != create_split(folder, seed=2).validation


def test_lots_are_hashes_of_seed_and_path(fill: Fill) -> None:
    # Written out once more: no release of any library may move a scan.
    folder = fill({"a": 10, "b": 10})
    split = create_split(folder, seed=5, validation=0.2, test=0.3)

    def lot(path: str) -> bytes:
        return hashlib.sha256(f"5\n{path}".encode()).digest()

    lots = sorted(paths(split.entries)[:10], key=lot)
    assert sorted(lots[:3]) == paths(split.test)[:3]
    assert sorted(lots[3:5]) == paths(split.validation)[:2]


def test_the_test_subset_does_not_depend_on_the_validation_share(fill: Fill) -> None:
    folder = fill({"a": 20, "b": 20})
    assert create_split(folder, validation=0.1, test=0.2).test == create_split(folder, validation=0.4, test=0.2).test


def test_the_place_of_the_folder_does_not_matter(fill: Fill) -> None:
    sizes = {"CT-0": 20, "CT-23": 20}
    assert to_json(create_split(fill(sizes, "a"))) == to_json(create_split(fill(sizes, "b")))


SCANDIR = os.scandir


class Reversed:
    """``os.scandir`` in the opposite order."""

    def __init__(self, path: str) -> None:
        self._entries = SCANDIR(path)
        self._reversed = iter(sorted(self._entries, key=lambda entry: entry.name, reverse=True))

    def __iter__(self) -> "Reversed":
        return self

    def __next__(self) -> os.DirEntry[str]:
        return next(self._reversed)

    def __enter__(self) -> "Reversed":
        return self

    def __exit__(self, *error: object) -> None:
        self._entries.close()

    close = __exit__


def test_the_order_of_the_file_system_does_not_matter(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill({"CT-0": 20, "CT-23": 20})
    (folder / "CT-0" / "copy.nii.gz").write_bytes((folder / "CT-0" / "CT-0_0003.nii.gz").read_bytes())
    expected = create_split(folder, test=0.2, folds=3)
    listdir = os.listdir
    monkeypatch.setattr(os, "scandir", Reversed)
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path), reverse=True))
    assert create_split(folder, test=0.2, folds=3) == expected


def test_scans_are_found_at_any_depth(fill: Fill) -> None:
    folder = fill({"CT-0": 2, "CT-23": 2})
    (folder / "CT-0" / "more").mkdir()
    (folder / "CT-0" / "more" / "deep.nii").write_bytes(b"deep")
    assert "CT-0/more/deep.nii" in paths(create_split(folder).entries)


def test_a_pair_of_files_is_one_scan_with_the_content_of_both(fill: Fill) -> None:
    folder = fill({"a": 3, "b": 3})
    for name in ("one", "two"):
        (folder / "a" / f"{name}.hdr").write_bytes(b"same header")
        (folder / "a" / f"{name}.img").write_bytes(name.encode())
    split = create_split(folder)
    sha = {entry.path: entry.sha256 for entry in split.entries}
    assert not split.duplicates
    assert sha["a/one.hdr"] == hashlib.sha256(b"same headerone").hexdigest()
    assert "a/one.img" not in sha


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("CT-23", "CT-0"), ("CT-0", "CT-23")),
        (("abnormal", "normal"), ("normal", "abnormal")),
        (("Normal", "COVID"), ("Normal", "COVID")),
    ],
)
def test_order_of_the_classes(fill: Fill, names: tuple[str, ...], order: tuple[str, ...]) -> None:
    split = create_split(fill(dict.fromkeys(names, 2)))
    assert split.classes == order
    assert [split.label_of(entry) for entry in split.entries] == [0, 0, 1, 1]


def test_hidden_folders_and_loose_files_do_not_count(fill: Fill) -> None:
    folder = fill({"CT-0": 2, "CT-23": 2, ".cache": 2})
    (folder / "README.txt").touch()
    assert create_split(folder).classes == ("CT-0", "CT-23")


@pytest.mark.parametrize(("validation", "test"), [(0.01, 0.01), (0.98, 0.01), (0.01, 0.98), (0.5, 0.49)])
def test_three_scans_are_one_in_each_subset_whatever_the_shares(fill: Fill, validation: float, test: float) -> None:
    split = create_split(fill({"a": 3, "b": 3}), validation=validation, test=test)
    assert counts(split, "a") == counts(split, "b") == (1, 1, 1)


def test_hashing_is_reported(fill: Fill) -> None:
    calls: list[tuple[int, int | None, str]] = []
    create_split(fill({"a": 2, "b": 2}), progress=lambda *call: calls.append(call))
    assert calls == [(n, 4, "Checking scans") for n in range(1, 5)]


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere is not there"):
        create_split(tmp_path / "nowhere")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="not a folder"):
        create_split(tmp_path / "file")


@pytest.mark.parametrize(("names", "found"), [(("a",), "1: a"), (("c", "a", "b"), "3: a, b, c")])
def test_other_than_two_classes(fill: Fill, names: tuple[str, ...], found: str) -> None:
    with pytest.raises(DatasetError, match=f"exactly 2 folders.* found {found}"):
        create_split(fill(dict.fromkeys(names, 2)))


@pytest.mark.parametrize(
    ("count", "test", "message"),
    [
        (0, 0.0, r"Class CT-23 has no scans"),
        (1, 0.0, r"Class CT-23 has 1 scan; at least 2 are needed, one each for train, validation\."),
        (2, 0.2, r"Class CT-23 has 2 scans; at least 3 are needed, one each for train, validation, test\."),
    ],
)
def test_a_class_too_small_to_divide(fill: Fill, count: int, test: float, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        create_split(fill({"CT-0": 5, "CT-23": count}), test=test)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_an_impossible_validation_share(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        create_split(tmp_path, validation=fraction)


@pytest.mark.parametrize("fraction", [1.0, -0.1, float("nan")])
def test_an_impossible_test_share(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(UsageError, match="test fraction must be at least 0 and below 1"):
        create_split(tmp_path, test=fraction)


def test_shares_that_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Validation 0\.5 and test 0\.5 leave nothing"):
        create_split(tmp_path, validation=0.5, test=0.5)


# Folds -------------------------------------------------------------------------------------------------------


def test_folds_are_disjoint_complete_and_stratified(fill: Fill) -> None:
    split = create_split(fill({"a": 23, "b": 31}), validation=0.2, test=0.2, folds=4)
    assert all((entry.fold is None) == (entry.subset == "test") for entry in split.entries)
    for label, left in (("a", 23 - 5), ("b", 31 - 6)):
        sizes = [sum(e.fold == n and e.label == label for e in split.entries) for n in range(4)]
        assert sum(sizes) == left
        assert max(sizes) - min(sizes) <= 1
    whole = [sum(entry.fold == n for entry in split.entries) for n in range(4)]
    assert max(whole) - min(whole) <= 1


def test_each_fold_takes_its_turn_as_validation(fill: Fill) -> None:
    split = create_split(fill({"a": 12, "b": 12}), test=0.25, folds=3)
    turns = [split.for_fold(n) for n in range(3)]
    validated = [path for turn in turns for path in paths(turn.validation)]
    assert sorted(validated) == sorted(paths(split.train + split.validation))
    for n, turn in enumerate(turns):
        assert turn.test == split.test
        assert {entry.fold for entry in turn.validation} == {n}
        assert n not in {entry.fold for entry in turn.train}


def test_fewer_scans_than_folds(fill: Fill) -> None:
    folder = fill({"a": 20, "b": 6})
    message = r"Class b has 4 scans; at least 5 are needed, one a fold for 5 folds outside test\."
    with pytest.raises(DatasetError, match=message):
        create_split(folder, test=0.3, folds=5)


@pytest.mark.parametrize("folds", [1, 0, -3])
def test_an_impossible_number_of_folds(tmp_path: Path, folds: int) -> None:
    with pytest.raises(UsageError, match=f"at least 2 folds, found {folds}"):
        create_split(tmp_path, folds=folds)


def test_a_fold_that_is_not_there(fill: Fill) -> None:
    folder = fill({"a": 6, "b": 6})
    with pytest.raises(UsageError, match="no fold 3: the split has folds 0 to 2"):
        create_split(folder, folds=3).for_fold(3)
    with pytest.raises(UsageError, match="no fold 0: the split has no folds"):
        create_split(folder).for_fold(0)


def test_a_split_without_training_scans_cannot_train(fill: Fill) -> None:
    folder = fill({"a": 2, "b": 2})
    split = create_split(folder)
    require_every_class(split)
    with pytest.raises(DatasetError, match=r"Class a needs scans for both.* 0 for train, 1 for validation, 0 for test"):
        require_every_class(Split(("a", "b"), 0, 0.3, 0.0, None, split.validation))
