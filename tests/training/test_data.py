from pathlib import Path

import numpy as np
import pytest

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.nifti import read_nifti
from ct3d_edge.splits.create import create_split
from ct3d_edge.training.data import prepare_scans

from .conftest import FolderMaker

CONTRACT = Contract(shape=(8, 7, 6))


def test_volumes_are_those_of_preprocess(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("CT-0", "CT-23")
    split = create_split(folder)
    with prepare_scans(folder, split, CONTRACT, tmp_path / "cache") as arrays:
        assert arrays.volumes.shape == (8, 8, 7, 6)
        assert arrays.volumes[0].dtype == np.float32
        assert not arrays.volumes[0].flags.writeable
        for row, entry in enumerate(split.train + split.validation):
            expected = preprocess(read_nifti(folder / entry.path), CONTRACT).volume
            np.testing.assert_array_equal(arrays.volumes[row], expected)
            assert arrays.labels[row] == float(entry.label == "CT-23")


def test_the_cache_is_on_disk_and_goes(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("CT-0", "CT-23")
    cache = tmp_path / "run" / "cache"
    with prepare_scans(folder, create_split(folder), CONTRACT, cache) as arrays:
        assert isinstance(arrays.volumes[0], np.memmap)
        assert len(list(cache.glob("*.npy"))) == 8
    assert not cache.exists()


def test_a_cache_that_is_kept_is_used_again(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("CT-0", "CT-23")
    split = create_split(folder)
    written = []
    for _ in range(2):
        with prepare_scans(folder, split, CONTRACT, tmp_path / "cache", keep=True):
            written.append({path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()})
    assert len(written[0]) == 8
    assert written[0] == written[1]


def test_what_is_not_the_runs_stays_in_the_cache(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("CT-0", "CT-23")
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "mine.txt").touch()
    with prepare_scans(folder, create_split(folder), CONTRACT, cache):
        pass
    assert [path.name for path in cache.iterdir()] == ["mine.txt"]


def test_every_scan_is_reported(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("CT-0", "CT-23")
    split = create_split(folder)
    calls: list[tuple[int, int | None, str]] = []
    with prepare_scans(folder, split, CONTRACT, tmp_path / "cache", lambda *call: calls.append(call)):
        pass
    assert calls == [(n, 8, "Preparing scans") for n in range(1, 9)]


def test_the_test_subset_is_not_prepared(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("CT-0", "CT-23")
    split = create_split(folder, test=0.25)
    for entry in split.test:
        (folder / entry.path).write_bytes(b"no scan")
    with prepare_scans(folder, split, CONTRACT, tmp_path / "cache") as arrays:
        assert arrays.volumes.shape[0] == 6


def test_flags_are_counted_by_scan(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("CT-0", "CT-23")
    scan = folder / "CT-0" / "study_00.nii.gz"
    scan.rename(scan.with_name("study_00.nii"))
    with prepare_scans(folder, create_split(folder), CONTRACT, tmp_path / "cache") as arrays:
        assert dict(arrays.flags) == {"extension_mismatch": 1}


def _spoil(folder: Path) -> None:
    (folder / "CT-0" / "study_01.nii.gz").write_bytes(b"no scan" * 100)
    (folder / "CT-23" / "study_02.nii.gz").write_bytes(b"no scan at all" * 100)


def test_all_unusable_scans_are_named_and_nothing_stays(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("CT-0", "CT-23")
    _spoil(folder)
    with (
        pytest.raises(DatasetError, match="2 of 8 scans") as caught,
        prepare_scans(folder, create_split(folder), CONTRACT, tmp_path / "cache"),
    ):
        pass
    assert "CT-0/study_01.nii.gz: study_01.nii.gz is not a NIfTI file" in str(caught.value)
    assert "CT-23/study_02.nii.gz: study_02.nii.gz is not a NIfTI file" in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_unusable_scans_are_left_out_when_asked(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("CT-0", "CT-23", count=6)
    _spoil(folder)
    with prepare_scans(folder, create_split(folder), CONTRACT, tmp_path / "cache", skip_bad=True) as arrays:
        assert arrays.split is not None
        used = arrays.split.train + arrays.split.validation
        assert (arrays.volumes.shape[0], len(used)) == (10, 10)
        for row, entry in enumerate(used):
            expected = preprocess(read_nifti(folder / entry.path), CONTRACT).volume
            np.testing.assert_array_equal(arrays.volumes[row], expected)
            assert arrays.labels[row] == float(entry.label == "CT-23")


def test_a_class_left_without_scans_stops(make_folder: FolderMaker, tmp_path: Path) -> None:
    folder = make_folder("CT-0", "CT-23")
    split = create_split(folder)
    (bad,) = (entry for entry in split.validation if entry.label == "CT-0")
    (folder / bad.path).write_bytes(b"no scan")
    with (
        pytest.raises(DatasetError, match=r"Class CT-0 needs .* 3 for train, 0 for validation"),
        prepare_scans(folder, split, CONTRACT, tmp_path / "cache", skip_bad=True),
    ):
        pass
