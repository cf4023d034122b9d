import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from ct3d_edge.errors import DatasetError, UsageError
from ct3d_edge.training import split_folder


def _touch(folder: Path, counts: dict[str, int]) -> Path:
    """Scans that are only names; splitting reads none."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for n in range(count):
            (folder / name / f"study_{n:04}.nii.gz").touch()
    return folder


def _count(scans: tuple[str, ...], name: str) -> int:
    return sum(scan.startswith(f"{name}/") for scan in scans)


def test_each_class_gives_its_share(tmp_path: Path) -> None:
    split = split_folder(_touch(tmp_path, {"CT-0": 100, "CT-23": 50}))
    assert (_count(split.train, "CT-0"), _count(split.validation, "CT-0")) == (70, 30)
    assert (_count(split.train, "CT-23"), _count(split.validation, "CT-23")) == (35, 15)


def test_no_scan_is_on_both_sides_and_none_is_lost(tmp_path: Path) -> None:
    split = split_folder(_touch(tmp_path, {"CT-0": 20, "CT-23": 30}))
    assert not set(split.train) & set(split.validation)
    assert set(split.scans) == {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.nii.gz")}
    assert len(split.scans) == 50


def test_the_seed_decides(tmp_path: Path) -> None:
    folder = _touch(tmp_path, {"CT-0": 20, "CT-23": 20})
    assert split_folder(folder, seed=1) == split_folder(folder, seed=1)
    assert split_folder(folder, seed=1).validation != split_folder(folder, seed=2).validation


def test_the_place_of_the_folder_does_not_matter(tmp_path: Path) -> None:
    counts = {"CT-0": 20, "CT-23": 20}
    assert split_folder(_touch(tmp_path / "a", counts)) == split_folder(_touch(tmp_path / "b", counts))


def test_the_order_of_the_file_system_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _touch(tmp_path, {"CT-0": 20, "CT-23": 20})
    expected = split_folder(folder)
    scandir, listdir = os.scandir, os.listdir

    class Reversed:
        def __init__(self, path: str) -> None:
            self._entries = scandir(path)
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

    monkeypatch.setattr(os, "scandir", Reversed)
    monkeypatch.setattr(os, "listdir", lambda path: sorted(listdir(path), reverse=True))
    assert split_folder(folder) == expected


def test_scans_are_found_at_any_depth(tmp_path: Path) -> None:
    folder = _touch(tmp_path, {"CT-0": 2, "CT-23": 2})
    (folder / "CT-0" / "more").mkdir()
    (folder / "CT-0" / "more" / "deep.nii").touch()
    assert "CT-0/more/deep.nii" in split_folder(folder).scans


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (("CT-23", "CT-0"), ("CT-0", "CT-23")),
        (("abnormal", "normal"), ("normal", "abnormal")),
        (("Normal", "COVID"), ("Normal", "COVID")),
    ],
)
def test_order_of_the_classes(tmp_path: Path, names: tuple[str, ...], order: tuple[str, ...]) -> None:
    split = split_folder(_touch(tmp_path, dict.fromkeys(names, 2)))
    assert split.classes == order
    assert [split.label_of(f"{name}/study_0000.nii.gz") for name in order] == [0, 1]


def test_hidden_folders_and_loose_files_do_not_count(tmp_path: Path) -> None:
    folder = _touch(tmp_path, {"CT-0": 2, "CT-23": 2, ".cache": 2})
    (folder / "README.txt").touch()
    assert split_folder(folder).classes == ("CT-0", "CT-23")


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_two_scans_are_one_on_each_side_whatever_the_fraction(tmp_path: Path, fraction: float) -> None:
    split = split_folder(_touch(tmp_path, {"a": 2, "b": 2}), validation=fraction)
    assert len(split.train) == len(split.validation) == 2


def test_json_holds_everything(tmp_path: Path) -> None:
    split = split_folder(_touch(tmp_path, {"CT-0": 4, "CT-23": 4}), seed=7)
    data = json.loads(split.to_json())
    assert data.pop("schema") == 1
    assert data == json.loads(json.dumps(asdict(split)))
    assert data["seed"] == 7


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere is not there"):
        split_folder(tmp_path / "nowhere")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="not a folder"):
        split_folder(tmp_path / "file")


@pytest.mark.parametrize(("names", "found"), [((), "0: none"), (("a",), "1: a"), (("c", "a", "b"), "3: a, b, c")])
def test_other_than_two_classes(tmp_path: Path, names: tuple[str, ...], found: str) -> None:
    with pytest.raises(DatasetError, match=f"exactly 2 folders.* found {found}"):
        split_folder(_touch(tmp_path, dict.fromkeys(names, 2)))


@pytest.mark.parametrize("count", [0, 1])
def test_a_class_too_small_to_divide(tmp_path: Path, count: int) -> None:
    with pytest.raises(DatasetError, match=rf"Class CT-23 has {count} scan\(s\)"):
        split_folder(_touch(tmp_path, {"CT-0": 5, "CT-23": count}))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_an_impossible_fraction(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        split_folder(tmp_path, validation=fraction)
