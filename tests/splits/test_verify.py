"""A folder that is not the one that was divided is noticed before anything is computed from it."""

from pathlib import Path

import pytest

from ct3d_edge.errors import DatasetError
from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.splits import folder as split_folders
from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.folder import verify_folder
from ct3d_edge.splits.split import Split

from .conftest import Fill


@pytest.fixture
def folder(fill: Fill) -> Path:
    folder = fill({"a": 10, "b": 10})
    (folder / "a" / "copy.nii.gz").write_bytes((folder / "a" / "a_0004.nii.gz").read_bytes())
    return folder


@pytest.fixture
def split(folder: Path) -> Split:
    return create_split(folder, test=0.2)


def test_an_unchanged_folder_fits(folder: Path, split: Split) -> None:
    assert verify_folder(split, folder) == split


def test_a_missing_scan(folder: Path, split: Split) -> None:
    for name in ("a/a_0001.nii.gz", "b/b_0002.nii.gz"):
        (folder / name).unlink()
    with pytest.raises(DatasetError, match=r"2 scans missing: a/a_0001\.nii\.gz, b/b_0002\.nii\.gz\. Put .* back"):
        verify_folder(split, folder)


def test_a_changed_scan(folder: Path, split: Split) -> None:
    (folder / "b" / "b_0007.nii.gz").write_bytes(b"something else")
    with pytest.raises(DatasetError, match=r"1 scan changed since: b/b_0007\.nii\.gz"):
        verify_folder(split, folder)


def test_a_new_scan_needs_a_new_split(folder: Path, split: Split) -> None:
    (folder / "b" / "new.nii").write_bytes(b"new")
    with pytest.raises(DatasetError, match=r"not in the split: b/new\.nii\. .* make the split again: ct3d-edge data"):
        verify_folder(split, folder)


def test_all_differences_are_told_at_once_and_many_are_counted(folder: Path, split: Split) -> None:
    (folder / "a" / "a_0000.nii.gz").unlink()
    (folder / "a" / "a_0001.nii.gz").write_bytes(b"other")
    for n in range(7):
        (folder / "a" / f"new{n}.nii").write_bytes(b"%d" % n)
    with pytest.raises(DatasetError, match=r"1 .* missing: .*; 1 .* changed since: .*; 7 .*new4\.nii and 2 more\."):
        verify_folder(split, folder)


def test_other_classes(fill: Fill, split: Split) -> None:
    with pytest.raises(DatasetError, match="its classes are x, y, not a, b"):
        verify_folder(split, fill({"x": 2, "y": 2}, "other"))


def test_a_removed_duplicate_is_no_difference_but_a_changed_one_is(folder: Path, split: Split) -> None:
    (folder / "a" / "copy.nii.gz").write_bytes(b"no copy any more")
    with pytest.raises(DatasetError, match=r"changed since: a/copy\.nii\.gz"):
        verify_folder(split, folder)
    (folder / "a" / "copy.nii.gz").unlink()
    assert verify_folder(split, folder) == split


def test_files_of_other_subsets_are_not_opened(folder: Path, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def spy(scan: Path) -> str:
        opened.append(scan.relative_to(folder).as_posix())
        return content_sha256(scan)

    monkeypatch.setattr(split_folders, "content_sha256", spy)
    verify_folder(split, folder, ("train", "validation"))
    used = {entry.path for entry in split.train + split.validation}
    assert {path for path in opened if path != "a/copy.nii.gz"} == used
    (folder / split.test[0].path).unlink()
    with pytest.raises(DatasetError, match=f"missing: {split.test[0].path}"):
        verify_folder(split, folder, ("train", "validation"))


def test_a_scan_that_cannot_be_read_any_more(folder: Path, split: Split) -> None:
    (folder / "a" / "a_0002.nii.gz").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"1 of 20 scans cannot be used(.|\n)*a_0002\.nii\.gz is empty"):
        verify_folder(split, folder)
    less = verify_folder(split, folder, skip_bad=True)
    assert [scan.path for scan in less.left_out] == ["a/a_0002.nii.gz"]
    assert len(less.entries) == 19


def test_a_scan_left_out_before_is_not_new(folder: Path) -> None:
    (folder / "b" / "empty.nii").touch()
    with pytest.raises(
        DatasetError, match=r"1 of 22 scans cannot be used(.|\n)*`skip_bad=True`(.|\n)*empty\.nii is empty"
    ):
        create_split(folder)
    split = create_split(folder, skip_bad=True)
    assert [scan.path for scan in split.left_out] == ["b/empty.nii"]
    assert verify_folder(split, folder) == split


def test_the_missing_half_of_a_pair_is_named(folder: Path) -> None:
    (folder / "b" / "pair.hdr").write_bytes(b"header")
    with pytest.raises(DatasetError, match=r"b/pair\.hdr: pair\.img does not exist"):
        create_split(folder)
