"""Class folders of DICOM series: divided by content and prepared like NIfTI files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.loader import content_sha256
from ct3d_edge.scan.volume import Volume
from ct3d_edge.splits.create import create_split
from ct3d_edge.splits.folder import verify_folder
from ct3d_edge.splits.prepared_cache import prepare_cache

made = pytest.importorskip("dicom_files", reason="python-gdcm is not installed")

CONTRACT = Contract(shape=(8, 7, 6))


@pytest.fixture
def folder(tmp_path: Path, hu: NDArray[np.int16]) -> Path:
    """Two normal series in one folder; of the abnormal ones, two in folders of their own and one copied."""
    data = tmp_path / "data"
    for number in (1, 2):
        made.write_series(data / "normal", hu + number, f"1.2.{number}", name=f"{{}}-{number}.dcm")
        made.write_series(data / "sick" / str(number), hu - number, f"1.3.{number}")
    shutil.copytree(data / "sick" / "2", data / "sick" / "3")
    return data


def test_series_are_divided_by_content(folder: Path) -> None:
    split = create_split(folder)
    assert [entry.path for entry in split.entries] == ["normal/1.2.1", "normal/1.2.2", "sick/1", "sick/2"]
    assert [(duplicate.path, duplicate.of) for duplicate in split.duplicates] == [("sick/3", "sick/2")]
    assert verify_folder(split, folder) == split


def test_a_class_folder_may_be_a_series_itself(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    for number, name in enumerate(("a", "b")):
        made.write_series(tmp_path / name, hu + number, f"1.2.{number}")
        made.write_series(tmp_path / name / "another", hu - number, f"1.3.{number}")
    paths = [entry.path for entry in create_split(tmp_path).entries]
    assert paths == ["a/1.2.0", "a/another", "b/1.2.1", "b/another"]


def test_neither_names_nor_copies_change_the_content(folder: Path) -> None:
    series = folder / "sick" / "1"
    before = content_sha256(series)
    for path in sorted(series.iterdir()):
        path.rename(path.with_name(f"renamed {path.name[::-1]}.dcm"))
    shutil.copy(next(series.iterdir()), series / "copy.dcm")
    assert content_sha256(series) == before
    data = bytearray((series / "copy.dcm").read_bytes())
    data[-1] ^= 1
    (series / "copy.dcm").write_bytes(data)
    assert content_sha256(series) != before


def test_series_are_prepared_as_the_volumes_they_hold(folder: Path, hu: NDArray[np.int16], tmp_path: Path) -> None:
    entries = create_split(folder).entries
    prepared = prepare_cache(folder, entries, CONTRACT, tmp_path / "cache", workers=1)
    assert prepared.unusable == ()
    expected = preprocess(Volume(hu + 2, affine=made.affine(hu.shape)), CONTRACT).volume
    found = np.load(prepared.entries["normal/1.2.2"].file)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_series_with_a_hole_is_not_learned_from(folder: Path, tmp_path: Path) -> None:
    (folder / "sick" / "1" / "005.dcm").unlink()
    entries = create_split(folder).entries
    prepared = prepare_cache(folder, entries, CONTRACT, tmp_path / "cache", workers=1)
    assert [(scan.path, scan.code) for scan in prepared.unusable] == [("sick/1", "missing_slices")]


def test_a_class_of_reports_alone_has_no_scans(folder: Path) -> None:
    shutil.rmtree(folder / "normal")
    (folder / "normal").mkdir()
    with pytest.raises(DatasetError, match="Class normal has no scans"):
        create_split(folder)


def test_passes_of_one_series_are_scans_that_stay_together(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    for name in ("a", "b"):
        for series in (1, 2, 3):
            datasets = []
            for phase in (1, 2):
                for dataset in made.series_datasets(hu + 10 * series + phase + ord(name), f"1.2.{series}.{ord(name)}"):
                    dataset.AcquisitionNumber = phase
                    dataset.SOPInstanceUID += f".{phase}"
                    dataset.ImagePositionPatient[2] += phase
                    datasets.append(dataset)
            made.write_datasets(tmp_path / name / str(series), datasets)
    split = create_split(tmp_path, validation=0.34)
    assert [entry.path.rpartition("#")[2] for entry in split.entries] == [
        f"AcquisitionNumber-{phase}" for _ in range(6) for phase in (1, 2)
    ]
    subsets = [entry.subset for entry in split.entries]
    assert subsets[::2] == subsets[1::2]
    assert set(subsets) == {"train", "validation"}


def test_the_phases_of_one_file_are_prepared_each(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    """One file, one hash of its bytes: the cache must not take one phase for the other."""
    for name, shift in (("a", 0), ("b", 300)):
        for series in (1, 2):
            dataset = made.enhanced_dataset(np.concatenate([hu, hu + 500], axis=2) + shift + series, f"1.2.{series}")
            for number, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
                upper = number >= hu.shape[2]  # frames run from the uppermost slice down
                groups.PlanePositionSequence[0].ImagePositionPatient[2] -= 0 if upper else hu.shape[2] * made.STEP
                groups.FrameContentSequence = [made.Dataset()]
                groups.FrameContentSequence[0].TemporalPositionIndex = 1 if upper else 2
            made.save(dataset, tmp_path / name / str(series) / "phases")
    entries = create_split(tmp_path, validation=0.5).entries
    prepared = prepare_cache(tmp_path, entries, CONTRACT, tmp_path / "cache", workers=1)
    for phase, added in ((1, 0), (2, 500)):
        entry = prepared.entries[f"b/2/1.2.2#TemporalPositionIndex-{phase}"]
        expected = preprocess(Volume(hu + 302 + added, affine=made.affine(hu.shape)), CONTRACT).volume
        np.testing.assert_allclose(np.load(entry.file), expected, rtol=0, atol=1e-6)
        assert entry.flags == ("pass_split",)
