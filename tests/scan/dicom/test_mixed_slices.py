"""Slices of two passes, two scales or two sizes in one series: never read as another volume."""

from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from products import each_value
from pydicom.dataset import Dataset

from ct3d_edge.errors import ScanError
from ct3d_edge.scan.loader import open_scan

from .conftest import code_of, flags_of
from .test_series import hu_of
from .test_series_membership import PASSES, first_pass, other_pass


@pytest.mark.parametrize(("first", "offset", "keyword"), each_value([0, 1], [0.1, 0.5, 0.9], PASSES))
def test_a_folder_of_woven_passes_is_refused_by_what_differs(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, offset: float, first: int
) -> None:
    one, two = PASSES[keyword][first], PASSES[keyword][1 - first]
    datasets = [*first_pass(hu, **{keyword: one}), *other_pass(hu, offset, **{keyword: two})]
    folder = made.write_datasets(tmp_path / "series", datasets)
    with pytest.raises(ScanError, match=keyword) as caught:
        open_scan(folder, raise_refused=False)
    assert caught.value.code == "multiple_volumes"


@pytest.mark.parametrize("offset", [0.00375, 0.1, 0.25, 0.4, 0.6, 0.75, 0.9])
def test_passes_without_attributes_are_told_by_their_distances(
    tmp_path: Path, hu: NDArray[np.int16], offset: float
) -> None:
    datasets = [*first_pass(hu, InstanceNumber=None), *other_pass(hu, offset, InstanceNumber=None)]
    folder = made.write_datasets(tmp_path / "series", datasets)
    with pytest.raises(ScanError, match="ImagePositionPatient") as caught:
        open_scan(folder, raise_refused=False)
    assert caught.value.code == "multiple_volumes"


@pytest.mark.parametrize("block", [1, 2, 4, 6])
def test_blocks_and_single_slices_of_an_acquisition_are_one_volume(
    tmp_path: Path, hu: NDArray[np.int16], block: int
) -> None:
    datasets = made.series_datasets(hu)
    for number, dataset in enumerate(datasets):
        dataset.AcquisitionNumber, dataset.AcquisitionTime = 1 + number // block, f"10{number // block:02}00"
    folder = made.write_datasets(tmp_path / "series", datasets)
    assert flags_of(folder) == []
    assert np.array_equal(hu_of(open_scan(folder)), hu)


@pytest.mark.parametrize("name", ["aaa.dcm", "zzz.dcm"])
@pytest.mark.parametrize("place", [3, 12])
def test_one_instance_uid_with_other_pixels_is_a_conflict(
    tmp_path: Path, hu: NDArray[np.int16], name: str, place: int
) -> None:
    folder = made.write_datasets(tmp_path / "series", made.series_datasets(hu))
    changed = made.ct_dataset(hu[::-1, :, 3].T, place, "1.2.3")
    changed.SOPInstanceUID = "1.2.3.4"
    made.save(changed, folder / name)
    assert code_of(folder) == "conflicting_instances"


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("slices", [1, 5, 12])
def test_a_scale_that_slices_lack_is_not_guessed(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, slices: int
) -> None:
    datasets = made.series_datasets(hu)
    for dataset in datasets[:slices]:
        delattr(dataset, keyword)
    assert code_of(made.write_datasets(tmp_path / "series", datasets)) == "missing_element"


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("moved", [range(1), range(3, 6), range(11, 12)])
def test_slices_moved_sideways_are_found(tmp_path: Path, hu: NDArray[np.int16], axis: int, moved: range) -> None:
    datasets = made.series_datasets(hu)
    for number in moved:
        datasets[number].ImagePositionPatient[axis] += 60
    found = flags_of(made.write_datasets(tmp_path / "series", datasets))
    assert ("shifted_slices", "refuse") in [flag[:2] for flag in found]


CHANGES = ("none", "patient", "study", "sideways", "pass", "conflict", "copy", "intercept", "lost")


def spoil(datasets: list[Dataset], hu: NDArray[np.int16], change: str, where: int, offset: float) -> list[Dataset]:
    """One of the `CHANGES` made to slices of a series."""
    some = datasets[where : where + 3]
    for dataset in some:
        if change == "patient":
            dataset.PatientID = "another"
        elif change == "study":
            dataset.StudyInstanceUID = "1.9"
        elif change == "sideways":
            dataset.ImagePositionPatient[0] += 60 * offset + 3
        elif change == "intercept":
            del dataset.RescaleIntercept
    if change == "pass":
        for dataset in datasets:
            dataset.AcquisitionNumber = 1
        return [*datasets, *other_pass(hu, offset, AcquisitionNumber=2)]
    if change in ("conflict", "copy"):
        source = hu if change == "copy" else hu[::-1] + np.int16(1)
        return [*datasets, made.ct_dataset(source[:, :, where].T, where, "1.2.3")]
    return datasets[:where] + datasets[where + 1 :] if change == "lost" else datasets


def outcome(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """A spoilt series is the volume it was, or part of it that is evenly spaced, or it is refused or remarked."""
    hu = np.random.default_rng(5).integers(-1000, 1000, (4, 5, 9)).astype(np.int16)
    change, where = data.draw(st.sampled_from(CHANGES)), data.draw(st.integers(1, 5))
    datasets = spoil(made.series_datasets(hu), hu, change, where, data.draw(st.floats(0, 1)))
    folder = made.write_datasets(tmp_path_factory.mktemp("spoilt"), data.draw(st.permutations(datasets)))
    try:
        scan = open_scan(folder)
    except ScanError:
        assert change not in ("none", "copy")
        return
    assert change in ("none", "copy"), change
    assert np.array_equal(hu_of(scan), hu)
    assert bool(scan.flags) == (change == "copy")


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_spoilt_series_is_never_another_volume(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    outcome(tmp_path_factory, data)


@pytest.mark.slow
@settings(max_examples=2000, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_spoilt_series_is_never_another_volume_in_many_cases(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    outcome(tmp_path_factory, data)


@pytest.mark.parametrize("uid", ["1.2.3", ""])
def test_a_slice_of_another_size_is_named(tmp_path: Path, hu: NDArray[np.int16], uid: str) -> None:
    datasets = first_pass(hu, SeriesInstanceUID=uid)
    made.set_pixels(datasets[4], np.zeros((20, 22)), np.uint16)
    with pytest.raises(ScanError, match=r"1 of 12 slices differ from the others in size: 004\.dcm"):
        open_scan(made.write_datasets(tmp_path / "series", datasets))
