import pytest

from ct3d_edge.errors import DatasetError
from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.splits.folder import folder_as_test_set

from .conftest import Fill


def test_every_scan_is_a_test_scan(fill: Fill) -> None:
    folder = fill({"normal": 3, "abnormal": 2})
    split = folder_as_test_set(folder)
    assert split.classes == ("normal", "abnormal")
    assert [(split.count("test", name), len(split.entries)) for name in split.classes] == [(3, 5), (2, 5)]
    assert all(entry.sha256 == content_sha256(folder / entry.path) for entry in split.entries)


def test_the_same_content_counts_once(fill: Fill) -> None:
    folder = fill({"a": 3, "b": 2})
    (folder / "a" / "again.nii.gz").write_bytes((folder / "a" / "a_0001.nii.gz").read_bytes())
    split = folder_as_test_set(folder)
    assert [(duplicate.path, duplicate.of) for duplicate in split.duplicates] == [("a/again.nii.gz", "a/a_0001.nii.gz")]
    assert split.count("test", "a") == 3


def test_the_same_content_under_both_classes_is_refused(fill: Fill) -> None:
    folder = fill({"a": 3, "b": 2})
    (folder / "b" / "again.nii.gz").write_bytes((folder / "a" / "a_0001.nii.gz").read_bytes())
    with pytest.raises(DatasetError, match=r"Under both classes with the same content: 1 scan"):
        folder_as_test_set(folder)


def test_what_cannot_be_read_stops_or_is_left_out(fill: Fill) -> None:
    folder = fill({"a": 3, "b": 2})
    (folder / "a" / "bad.nii.gz").touch()
    with pytest.raises(DatasetError, match="1 of 6 scans cannot be used"):
        folder_as_test_set(folder)
    split = folder_as_test_set(folder, skip_bad=True)
    assert [scan.path for scan in split.left_out] == ["a/bad.nii.gz"]
    assert len(split.entries) == 5


def test_reports_every_scan(fill: Fill) -> None:
    calls: list[tuple[int, int | None, str]] = []
    folder_as_test_set(fill({"a": 2, "b": 2}), progress=lambda *call: calls.append(call))
    assert calls == [(n, 4, "Checking scans") for n in range(1, 5)]
