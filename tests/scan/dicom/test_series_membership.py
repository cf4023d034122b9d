"""Files under one series UID that do not make one volume: other patients, other passes, other places."""

from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from numpy.typing import NDArray
from products import each_pair
from pydicom.dataset import Dataset

from ct3d_edge.errors import ScanError
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.loader import open_scan

from .conftest import code_of, flags_of
from .test_series import hu_of


def other_pass(hu: NDArray[np.int16], offset: float, **values: object) -> list[Dataset]:
    """Another volume on the same grid, ``offset`` slice distances above, under the same series UID."""
    datasets = made.series_datasets(hu[:, ::-1])
    for number, dataset in enumerate(datasets):
        dataset.SOPInstanceUID = f"1.2.3.7.{number + 1}"
        dataset.ImagePositionPatient = [-20.0, -30.0, (number + offset) * made.STEP]
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
    return datasets


def first_pass(hu: NDArray[np.int16], **values: object) -> list[Dataset]:
    datasets = made.series_datasets(hu)
    for dataset in datasets:
        for keyword, value in values.items():
            setattr(dataset, keyword, value)
    return datasets


@pytest.mark.parametrize(
    "keyword", ["StudyInstanceUID", "PatientID", "FrameOfReferenceUID", "SeriesNumber", "StudyDate", "SeriesDate"]
)
def test_folders_that_differ_in_identity_stay_apart(tmp_path: Path, hu: NDArray[np.int16], keyword: str) -> None:
    values = ("20010101", "20190101") if keyword.endswith("Date") else ("1", "2")
    one = first_pass(hu[:, :, :6], **{keyword: values[0]})
    two = other_pass(hu[:, :, 6:], 6, **{keyword: values[1]})
    folders = [
        made.write_datasets(tmp_path / f"patient_{n}", those, f"{n}{{}}.dcm") for n, those in enumerate((one, two))
    ]
    assert find_scans([tmp_path]) == folders
    for folder, expected in zip(folders, (hu[:, :, :6], hu[:, ::-1, 6:]), strict=True):
        assert np.array_equal(hu_of(open_scan(folder)), expected)


@pytest.mark.parametrize(
    ("keyword", "offset", "seed"),
    each_pair(["PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SeriesNumber"], [0, 0.25, 0.5, 12], range(3)),
)
def test_two_identities_in_one_folder_are_two_scans(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, offset: float, seed: int
) -> None:
    datasets = [*first_pass(hu, **{keyword: "1"}), *other_pass(hu, offset, **{keyword: "2"})]
    order = np.random.default_rng(seed).permutation(len(datasets))
    folder = made.write_datasets(tmp_path / "series", [datasets[n] for n in order])
    scans = find_scans([tmp_path])
    assert [scan.name.startswith(f"1.2.3#{keyword}-") for scan in scans] == [True, True]
    opened = [open_scan(scan) for scan in scans]
    assert [[(f.code, f.severity, f.value) for f in scan.flags] for scan in opened] == 2 * [
        [("series_split", "warn", keyword)]
    ]
    shown = sorted(map(hu_of, opened), key=lambda volume: not np.array_equal(volume, hu))
    assert np.array_equal(shown[0], hu)
    assert np.array_equal(shown[1], hu[:, ::-1])
    with pytest.raises(ScanError, match=f"2 scans that differ in {keyword}; name one") as caught:
        open_scan(folder)
    assert caught.value.code == "multiple_volumes"


def test_one_attribute_is_enough_for_a_name(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    one = first_pass(hu, PatientID="1", StudyInstanceUID="1.1", SeriesNumber=1)
    two = other_pass(hu, 0.5, PatientID="2", StudyInstanceUID="1.2", SeriesNumber=1)
    for dataset in two[:4]:
        dataset.SeriesNumber = 2
    for dataset in one[:4]:
        dataset.SeriesNumber = 2
    scans = find_scans([made.write_datasets(tmp_path / "a", [*one, *two])])
    assert len(scans) == 4, "two patients, two series each"
    two = other_pass(hu, 0.5, PatientID="2", StudyInstanceUID="1.2", SeriesNumber=2)
    one = first_pass(hu, PatientID="1", StudyInstanceUID="1.1", SeriesNumber=1)
    scans = find_scans([made.write_datasets(tmp_path / "b", [*one, *two])])
    assert ["," in scan.name for scan in scans] == [False, False]
    assert open_scan(scans[0]).flags[0].value == "PatientID, SeriesNumber, StudyInstanceUID"


def test_names_of_scans_tell_nothing_of_the_patient(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    """Nor a hash of it: few numbers or dates are to be tried."""
    values: tuple[dict[str, object], ...] = (
        {"PatientID": "4711", "AcquisitionDate": "20200101"},
        {"PatientID": "4712", "AcquisitionDate": "20200202"},
    )
    names = []
    for number, renamed in enumerate((False, True)):
        datasets = [*first_pass(hu, **values[0]), *other_pass(hu, 0.5, **values[1])]
        for dataset in datasets:
            dataset.PatientID += "0" if renamed else ""
        folder = made.write_datasets(tmp_path / f"{number}", datasets)
        names.append([scan.name for scan in find_scans([folder])])
    assert sorted(names[0]) == sorted(names[1])


@pytest.mark.parametrize(
    ("keyword", "code"),
    [("PatientID", "mixed_patients"), ("StudyInstanceUID", "mixed_series"), ("FrameOfReferenceUID", "mixed_series")],
)
@pytest.mark.parametrize("count", [1, 2])
def test_slices_of_another_identity_that_are_no_volume_are_refused_with_the_others(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, code: str, count: int
) -> None:
    datasets = [*first_pass(hu, **{keyword: "1"}), *other_pass(hu, 12, **{keyword: "2"})[:count]]
    assert code_of(made.write_datasets(tmp_path / "series", datasets)) == code


def test_files_without_a_series_uid_are_told_and_compared(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    datasets = made.series_datasets(hu)
    for dataset in datasets:
        del dataset.SeriesInstanceUID
    folder = made.write_datasets(tmp_path / "series", datasets)
    assert flags_of(folder) == [("inferred_series", "warn", 12)]
    assert np.array_equal(hu_of(open_scan(folder)), hu)
    for number, dataset in enumerate(datasets):
        dataset.SeriesNumber = 1 + number // 6
    made.write_datasets(folder, datasets)
    assert [open_scan(scan).shape[2] for scan in find_scans([folder])] == [6, 6]


DATES = {
    "years": ({"AcquisitionDate": "20010101"}, {"AcquisitionDate": "20190101"}, "AcquisitionDate"),
    "two days": ({"AcquisitionDate": "20200228"}, {"AcquisitionDate": "20200301"}, "AcquisitionDate"),
    "content": ({"ContentDate": "20010101"}, {"ContentDate": "20190101"}, "ContentDate"),
    "birth": ({"PatientBirthDate": "19500101"}, {"PatientBirthDate": "19700101"}, "PatientID"),
}


@pytest.mark.parametrize("folders", [1, 2])
@pytest.mark.parametrize(("one", "two", "named"), DATES.values(), ids=DATES)
def test_slices_of_other_days_are_not_one_scan(
    tmp_path: Path, hu: NDArray[np.int16], one: dict[str, object], two: dict[str, object], named: str, folders: int
) -> None:
    """They would complete one another."""
    lower, upper = first_pass(hu[:, :, :6], **one), other_pass(hu[:, :, 6:], 6, **two)
    made.write_datasets(tmp_path / "patient_1", lower, "1{}.dcm")
    made.write_datasets(tmp_path / f"patient_{folders}", upper, "2{}.dcm")
    scans = find_scans([tmp_path])
    shown = sorted(
        (hu_of(open_scan(scan)) for scan in scans), key=lambda volume: not np.array_equal(volume, hu[:, :, :6])
    )
    assert [volume.shape[2] for volume in shown] == [6, 6]
    assert np.array_equal(shown[0], hu[:, :, :6])
    assert np.array_equal(shown[1], hu[:, ::-1, 6:])
    if folders == 1:
        assert [flag.value for scan in scans for flag in open_scan(scan).flags] == [named, named]


def test_a_day_that_only_some_slices_give_separates_nothing(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    datasets = first_pass(hu, AcquisitionDate="20200101", ContentDate="20200601")
    for dataset in datasets[:4]:
        del dataset.AcquisitionDate
    datasets[5].AcquisitionDate = ""
    datasets[6].ContentDate = "20210101"
    assert flags_of(made.write_datasets(tmp_path, datasets)) == []


@pytest.mark.parametrize("offset", [0, 0.3, 0.5, 12])
def test_files_without_a_series_uid_are_separated_by_their_description(
    tmp_path: Path, hu: NDArray[np.int16], offset: float
) -> None:
    datasets = [*first_pass(hu, SeriesDescription="thorax"), *other_pass(hu, offset, SeriesDescription="lung")]
    for dataset in datasets:
        del dataset.SeriesInstanceUID
    scans = find_scans([made.write_datasets(tmp_path / "series", datasets)])
    opened = [open_scan(scan) for scan in scans]
    assert [sorted(flag.code for flag in scan.flags) for scan in opened] == 2 * [["inferred_series", "series_split"]]
    assert {hu_of(scan).tobytes() for scan in opened} == {
        volume.astype(np.float64).tobytes() for volume in (hu, hu[:, ::-1])
    }


def test_files_without_a_series_uid_are_separated_by_their_matrix(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    other = made.series_datasets(hu[:, :18])
    for number, dataset in enumerate(other):
        dataset.SOPInstanceUID = f"1.2.3.7.{number + 1}"
    datasets = [*first_pass(hu), *other]
    for dataset in datasets:
        del dataset.SeriesInstanceUID
    scans = find_scans([made.write_datasets(tmp_path / "series", datasets)])
    assert {open_scan(scan).shape for scan in scans} == {hu.shape, hu[:, :18].shape}


def test_descriptions_of_one_series_uid_separate_nothing(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    datasets = first_pass(hu)
    datasets[3].SeriesDescription = "renamed"
    assert flags_of(made.write_datasets(tmp_path, datasets)) == []


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
@pytest.mark.parametrize("lacking", [1, 6, 11])
def test_an_identity_that_some_files_lack_is_a_flag(
    tmp_path: Path, hu: NDArray[np.int16], keyword: str, lacking: int
) -> None:
    datasets = first_pass(hu, StudyInstanceUID="1.5", FrameOfReferenceUID="1.6")
    for dataset in datasets[:lacking]:
        delattr(dataset, keyword)
    assert flags_of(made.write_datasets(tmp_path, datasets)) == [("inferred_series", "warn", lacking)]


def test_a_scan_that_passes_midnight_is_one(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    datasets = first_pass(hu, StudyDate="20200101", SeriesDate="20200101")
    for number, dataset in enumerate(datasets):
        dataset.AcquisitionDate = dataset.ContentDate = "20200101" if number < 6 else "20200102"
    assert flags_of(made.write_datasets(tmp_path, datasets)) == []


PASSES = {
    "AcquisitionNumber": (1, 2),
    "AcquisitionTime": ("101010", "101055"),
    "TemporalPositionIdentifier": (1, 2),
    "ConvolutionKernel": ("B30f", "B70f"),
    "ContrastBolusAgent": ("", "iodine"),
    "ImageType": (["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5"]),
}
