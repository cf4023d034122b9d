"""Series as they should not be: each gets its code, and nothing is guessed in silence."""

from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from ct3d_edge.errors import RefusedScanError
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.qc_flag import QCFlag

from .conftest import Change, code_of, flags_of, only, setting
from .test_series import change_all, hu_of


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"Rows": None}, "bad_header"),
        ({"Rows": 0}, "bad_header"),
        ({"Rows": 65535, "Columns": 65535}, "truncated"),
        ({"RescaleSlope": 0}, "bad_header"),
        ({"RescaleSlope": "1e300"}, "bad_header"),
        ({"RescaleIntercept": "-1e30"}, "bad_header"),
        ({"RescaleIntercept": "nan"}, "bad_header"),
        ({"PixelSpacing": ["inf", "2"]}, "bad_header"),
        ({"BitsAllocated": None}, "bad_header"),
        ({"PixelRepresentation": None}, "bad_header"),
        ({"BitsStored": 17}, "bad_header"),
        ({"HighBit": 16}, "bad_header"),
        ({"BitsAllocated": 64, "BitsStored": 64, "HighBit": 63}, "unsupported_dtype"),
        ({"NumberOfFrames": 9_999_999}, "truncated"),
        ({"NumberOfFrames": -1}, "bad_header"),
        ({"ImagePositionPatient": None}, "no_geometry"),
        ({"ImageOrientationPatient": None}, "no_geometry"),
        ({"ImageOrientationPatient": [0] * 6}, "no_geometry"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "no_geometry"),
        ({"PixelSpacing": None}, "no_geometry"),
        ({"PixelSpacing": [0, 2]}, "no_geometry"),
        ({"PixelSpacing": [-1, 2]}, "no_geometry"),
        ({"ImagePositionPatient": ["1e30", 0, 0]}, "bad_header"),
        ({"SamplesPerPixel": 3}, "unsupported_dtype"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "unsupported_dtype"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"Modality": "MR"}, "not_ct"),
    ],
    ids=str,
)
def test_elements_that_cannot_be_are_refused(folder: Path, values: dict[str, object], code: str) -> None:
    change_all(folder, setting(**values))
    path = folder / "003.dcm"  # a file that is named is taken for what it is
    assert code_of(path) == code


@pytest.mark.parametrize(
    "tag", ["20003200", "20003700", "28003000", "28005310"], ids=["position", "orientation", "spacing", "slope"]
)
def test_text_where_numbers_should_be_is_a_bad_header(folder: Path, tag: str) -> None:
    path = folder / "003.dcm"
    data = path.read_bytes()
    at = data.index(bytes.fromhex(tag) + b"DS") + 8
    path.write_bytes(data[:at] + b"x" + data[at + 1 :])
    assert code_of(path) == "bad_header"


def test_private_elements_are_passed_over(folder: Path, hu: NDArray[np.int16]) -> None:
    def add(dataset: Dataset, number: int) -> None:
        block = dataset.private_block(0x0029, "SOMEBODY ELSE", create=True)
        block.add_new(0x01, "LO", made.PATIENT_NAME)
        block.add_new(0x02, "UN", np.random.default_rng(number).bytes(5000))
        block.add_new(0x03, "DS", "1e400")

    change_all(folder, add)
    assert np.array_equal(hu_of(open_scan(folder)), hu)
    assert flags_of(folder) == []


def test_a_slice_missing_in_the_middle_is_refused_unless_it_is_allowed(folder: Path) -> None:
    (folder / "004.dcm").unlink()
    (folder / "005.dcm").unlink()
    assert flags_of(folder) == [("missing_slices", "refuse", 2)]
    with pytest.raises(RefusedScanError, match=r"2 slice.* missing, 40.0 mm .* 8.00 mm apart"):
        open_scan(folder)
    scan = open_scan(folder, allow=["missing_slices"])
    assert scan.shape[2] == 10
    assert [(flag.code, flag.severity) for flag in scan.flags] == [("missing_slices", "warn")]


@pytest.mark.parametrize(("shift", "expected"), [(0.5, []), (2.0, ["warn"]), (3.9, ["warn"])])
def test_uneven_distances_are_measured(folder: Path, shift: float, expected: list[str]) -> None:
    def move(dataset: Dataset, number: int) -> None:
        dataset.ImagePositionPatient[2] += shift

    change_all(folder, only(5, move))
    found = flags_of(folder)
    assert [severity for _, severity, _ in found] == expected
    if expected:
        assert found[0] == ("nonuniform_spacing", "warn", pytest.approx(shift / 8, abs=1e-3))


def test_a_series_of_two_distances_is_refused(folder: Path) -> None:
    """The upper half lies 1.3 times as far apart: no slice is missing, and no even grid fits."""

    def stretch(dataset: Dataset, number: int) -> None:
        z = float(dataset.ImagePositionPatient[2])
        dataset.ImagePositionPatient[2] = z if z < 44 else 44 + (z - 44) * 1.4

    change_all(folder, stretch)
    assert [flag[:2] for flag in flags_of(folder)] == [("nonuniform_spacing", "refuse")]


@pytest.mark.parametrize("degrees", [0.5, 15.0, -20.0])
def test_a_tilted_gantry_is_refused_by_name(folder: Path, degrees: float) -> None:
    def tilt(dataset: Dataset, number: int) -> None:
        dataset.ImagePositionPatient[1] += float(dataset.ImagePositionPatient[2]) * np.tan(np.deg2rad(degrees))

    change_all(folder, tilt)
    expected = [("gantry_tilt", "refuse", pytest.approx(abs(degrees), abs=0.01))] if abs(degrees) > 1 else []
    assert flags_of(folder) == expected


def test_copies_of_slices_are_dropped(folder: Path, hu: NDArray[np.int16]) -> None:
    for name in ("003.dcm", "007.dcm"):
        (folder / f"copy of {name}").write_bytes((folder / name).read_bytes())
    assert np.array_equal(hu_of(open_scan(folder)), hu)
    assert flags_of(folder) == [("duplicate_slices", "warn", 2)]


def test_the_same_slice_under_another_identity_is_a_copy(folder: Path, hu: NDArray[np.int16]) -> None:
    dataset = dcmread(folder / "003.dcm")
    dataset.SOPInstanceUID = "1.2.3.99"
    made.save(dataset, folder / "again.dcm")
    assert np.array_equal(hu_of(open_scan(folder)), hu)
    assert flags_of(folder) == [("duplicate_slices", "warn", 1)]


def test_two_phases_in_one_series_are_several_volumes(folder: Path, hu: NDArray[np.int16]) -> None:
    for path in sorted(folder.iterdir()):
        dataset = dcmread(path)
        dataset.SOPInstanceUID += ".7"
        dataset.PixelData = dataset.PixelData[::-1]
        made.save(dataset, path.with_name(f"b{path.name}"))
    assert code_of(folder) == "multiple_volumes"


def test_two_phases_in_one_enhanced_file_are_several_volumes(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    dataset = made.enhanced_dataset(np.concatenate([hu, hu + 50], axis=2))
    for number, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        groups.PlanePositionSequence[0].ImagePositionPatient[2] = (number % hu.shape[2]) * made.STEP
    assert code_of(made.save(dataset, tmp_path / "phases.dcm")) == "multiple_volumes"


@pytest.mark.parametrize(
    "change",
    [
        setting(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        setting(PixelSpacing=[3.0, 2.1]),
        lambda dataset, _: made.set_pixels(dataset, np.zeros((20, 22)), np.uint16),
    ],
    ids=["direction", "spacing", "size"],
)
def test_slices_that_do_not_belong_together_are_refused(folder: Path, change: Change) -> None:
    change_all(folder, only(0, change))
    assert code_of(folder) == "inconsistent_slices"


def test_one_slice_is_no_volume(folder: Path) -> None:
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    assert code_of(folder) == "single_slice"


def test_an_overview_among_the_slices_is_left_out(folder: Path, hu: NDArray[np.int16]) -> None:
    dataset = dcmread(folder / "000.dcm")
    dataset.ImageType, dataset.SOPInstanceUID = ["ORIGINAL", "PRIMARY", "LOCALIZER"], "1.2.3.99"
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    made.save(dataset, folder / "scout.dcm")
    assert np.array_equal(hu_of(open_scan(folder)), hu)
    assert flags_of(folder) == [("localizer", "warn", 1)]


FOUND = {
    "two patients": (only({0, 1}, setting(PatientID="another")), ("mixed_patients", "refuse", 2)),
    "another modality": (setting(Modality="PT"), ("not_ct", "refuse", "PT")),
    "no rescale": (
        setting(RescaleSlope=None, RescaleIntercept=None, RescaleType=None),
        ("missing_rescale", "warn", None),
    ),
    "other units": (setting(RescaleType="US"), ("missing_rescale", "warn", "US")),
    "more were declared": (setting(ImagesInAcquisition=40), ("incomplete_series", "warn", 12)),
    "inverted for display": (setting(PhotometricInterpretation="MONOCHROME1"), ("monochrome1", "warn", None)),
    "reformatted": (setting(ImageType=["DERIVED", "SECONDARY", "MPR"]), ("derived", "warn", None)),
}


@pytest.mark.parametrize(("change", "expected"), FOUND.values(), ids=FOUND)
def test_what_a_series_says_of_itself_is_found(folder: Path, change: Change, expected: tuple[object, ...]) -> None:
    change_all(folder, change)
    assert flags_of(folder / "000.dcm") == [expected]


def test_no_flag_tells_who_the_patient_is(folder: Path) -> None:
    change_all(folder, only(0, setting(PatientName="Roe^Richard", PatientID="PID-0815")))
    told = " ".join(f"{f.code} {f.detail} {f.value}" for f in open_scan(folder, raise_refused=False).flags)
    for secret in (made.PATIENT_NAME, made.PATIENT_ID, "Roe", "0815"):
        assert secret not in told


def test_allowing_lowers_by_one_step(folder: Path) -> None:
    change_all(folder, setting(Modality="PT", RescaleType="US"))
    path = folder / "000.dcm"
    assert [f.severity for f in open_scan(path, allow=["not_ct"]).flags] == ["warn", "warn"]
    assert [f.severity for f in open_scan(path, allow=["not_ct", "missing_rescale"]).flags] == ["warn", "ok"]
    assert all(isinstance(flag, QCFlag) for flag in open_scan(path, raise_refused=False).flags)
