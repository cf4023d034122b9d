"""Series cut, re-identified, shifted and shuffled over folders: no scan shows slices of two sources."""

from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from ct3d_edge.errors import ScanError
from ct3d_edge.scan.discovery import find_scans
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
