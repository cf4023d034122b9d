"""Series cut, re-identified, shifted and shuffled over folders: no scan shows slices of two sources."""

from collections.abc import Callable
from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ct3d_edge.errors import ScanError
from ct3d_edge.scan.discovery import discover_scans, find_scans
from ct3d_edge.scan.loader import open_scan

from .test_series import hu_of

SLICES = 8
DIFFERENT = ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID", "AcquisitionNumber", "TemporalPositionIdentifier")
PASS = DIFFERENT[3:]
OFFSETS = (0, 0.00375, 0.3, 0.5, 1, 2.5)
"""In slice distances: in one place, beside each other, and in turn."""


def source(number: int, keyword: str, offset: float) -> list[Dataset]:
    """Slices whose voxels tell their source and their number; they lie ``offset`` slice distances up."""
    hu = np.empty((4, 5, SLICES), np.int16)
    hu[:] = 100 * number + np.arange(SLICES)
    datasets = made.series_datasets(hu)
    for index, dataset in enumerate(datasets):
        dataset.SOPInstanceUID = f"1.2.3.{number + 1}.{index + 1}"
        dataset.ImagePositionPatient[2] = (index + offset) * made.STEP
        setattr(dataset, keyword, f"{number + 1}")
    return datasets


def write(root: Path, data: st.DataObject) -> bool:
    """Whether they share a folder: two sources under one series UID, or each cut into two folders."""
    # A pass that continues another one completes it: passes lie in each other.
    keyword = data.draw(st.sampled_from(DIFFERENT))
    offset = data.draw(st.sampled_from(OFFSETS if keyword in PASS else (0.5, SLICES)))
    shared = data.draw(st.booleans())
    datasets = []
    for number in range(2):
        cut = data.draw(st.integers(0, SLICES))
        for index, dataset in enumerate(source(number, keyword, number * offset)):
            datasets.append((root / ("all" if shared else f"source {number}/part {int(index < cut)}"), dataset))
    for name, (folder, dataset) in enumerate(data.draw(st.permutations(datasets))):
        made.save(dataset, folder / f"{name:03}.dcm")
    return shared


def shown_by(path: Path) -> NDArray[np.float64] | str:
    """One voxel of each slice, or the code by which the scan is refused."""
    try:
        hu = hu_of(open_scan(path))
    except ScanError as error:
        return error.code
    shown: NDArray[np.float64] = hu[0, 0]
    return shown


def judge(root: Path, data: st.DataObject) -> None:
    shared = write(root, data)
    found = find_scans([root])
    for path in (*found, root / "1.2.3"):
        shown = shown_by(path)
        if isinstance(shown, str):
            # Sources that lie apart are not refused for each other.
            assert shared or path not in found or shown == "single_slice", (path, shown)
            continue
        assert len(set(shown // 100)) == 1, path
        assert np.array_equal(np.diff(shown), np.ones(len(shown) - 1)), path


def copies() -> list[list[Dataset]]:
    return [source(0, "PatientID", 0), source(0, "PatientID", 0)]


def patients() -> list[list[Dataset]]:
    return [source(number, "PatientID", 0) for number in range(2)]


def passes() -> list[list[Dataset]]:
    return [source(number, "AcquisitionNumber", 0.5 * number) for number in range(2)]


def kernels() -> list[list[Dataset]]:
    found = [source(0, "ConvolutionKernel", 0), source(1, "ConvolutionKernel", 0)]
    for number, datasets in enumerate(found):
        for dataset in datasets:
            dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = f"1.2.{number}", "5", "6"
    return found


def halves() -> list[list[Dataset]]:
    whole = source(0, "PatientID", 0)
    return [whole[: SLICES // 2], whole[SLICES // 2 :]]


def conflict() -> list[list[Dataset]]:
    changed = source(0, "PatientID", 0)
    for dataset, other in zip(changed, source(1, "PatientID", 0), strict=True):
        dataset.PixelData = other.PixelData
    return [source(0, "PatientID", 0), changed]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (copies, "repeated_acquisition"),
        (patients, "series_split"),
        (passes, "series_split"),
        (kernels, "repeated_acquisition"),
        (halves, "incomplete_series"),
        (conflict, "incomplete_series"),
    ],
)
def test_folders_that_are_named_one_by_one_are_compared(
    tmp_path: Path, make: Callable[[], list[list[Dataset]]], code: str
) -> None:
    folders = [made.write_datasets(tmp_path / f"{number}", datasets) for number, datasets in enumerate(make())]
    apart, together = discover_scans(folders), discover_scans(tmp_path)
    assert list(apart.scans) == folders
    assert [[(flag.code, flag.severity) for flag in apart.flags[str(folder)]] for folder in folders] == [
        [(code, "warn")]
    ] * 2
    files = discover_scans([file for folder in folders for file in sorted(folder.iterdir())])
    assert (files.scans, files.flags) == (apart.scans, apart.flags), "a file stands for the series in its folder"
    if len(together.scans) == 2:
        assert together.flags == apart.flags
    else:
        assert together.scans == (tmp_path / "1.2.3",)
    assert discover_scans(folders[0]).flags == discover_scans([folders[0]] * 2).flags == {}


def test_of_three_folders_the_one_that_lies_in_another_does_not_count(tmp_path: Path) -> None:
    first, second = (made.write_datasets(tmp_path / f"{number}", part) for number, part in enumerate(halves()))
    flags = discover_scans([first, second]).flags
    assert discover_scans([first, second, first.parent / ".." / tmp_path.name / "1"]).flags.keys() >= flags.keys()
    assert {flag.value for those in flags.values() for flag in those} == {2}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("count", [1, 2])
def test_a_part_that_is_named_beside_the_whole_series_is_flagged(tmp_path: Path, backwards: bool, count: int) -> None:
    parts = [made.write_datasets(tmp_path / f"{number}", part) for number, part in enumerate(halves())][:count]
    found = discover_scans([*parts, tmp_path] if backwards else [tmp_path, *parts])
    assert set(found.scans) == {tmp_path / "1.2.3", *parts}
    assert {path: [flag.code for flag in those] for path, those in found.flags.items()} == {
        str(part): ["incomplete_series"] for part in parts
    }


def test_a_folder_that_is_named_beside_the_one_that_holds_it_is_no_other_part(tmp_path: Path) -> None:
    folder = made.write_datasets(tmp_path / "study" / "series", source(0, "PatientID", 0))
    found = discover_scans([tmp_path / "study", folder, folder.resolve()])
    assert (found.scans, found.flags) == ((folder,), {})


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_scan_holds_slices_of_two_sources(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    judge(tmp_path_factory.mktemp("folders"), data)


@pytest.mark.slow
@settings(max_examples=200, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_scan_holds_slices_of_two_sources_in_many_cases(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    judge(tmp_path_factory.mktemp("folders"), data)
