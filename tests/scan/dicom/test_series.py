"""Sound series in all the forms in which they come, against the volume that they were made from."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dicom_files as made
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from ct3d_edge.contract import Contract
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.volume import Scan, Volume

COMPRESSED = [JPEGLosslessSV1, JPEGLossless, JPEGLSLossless, JPEG2000Lossless, RLELossless]


def hu_of(scan: Scan) -> NDArray[np.float64]:
    """All voxels ``(i, j, k)`` in HU."""
    planes = [plane.astype(np.float64).T for plane in scan.planes(range(scan.shape[2]))]
    return np.stack(planes, axis=2) * scan.slope + scan.intercept


def codes(scan: Scan) -> list[str]:
    return [flag.code for flag in scan.flags]


def change_all(folder: Path, change: Callable[[Dataset, int], None], syntax: UID = ExplicitVRLittleEndian) -> None:
    """Rewrite every file of a folder; ``change`` gets the data set and its number from the top."""
    for number, path in enumerate(sorted(folder.iterdir())):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values that the test wants to be wrong
            dataset = dcmread(path)
            change(dataset, number)
            made.save(dataset, path, syntax)


def test_a_series_is_the_volume_it_was_made_from(folder: Path, hu: NDArray[np.int16]) -> None:
    scan = open_scan(folder)
    assert np.array_equal(hu_of(scan), hu)
    assert scan.affine is not None
    np.testing.assert_allclose(scan.affine, made.affine(hu.shape), atol=1e-12)
    assert (scan.shape, scan.dtype.name, scan.slope, scan.intercept) == (hu.shape, "uint16", 1, made.INTERCEPT)
    assert (scan.axis_code, scan.spacing) == ("LPS", (2.0, 3.0, 8.0))
    assert scan.flags == ()


def test_it_gives_the_network_input_of_the_volume(folder: Path, hu: NDArray[np.int16]) -> None:
    contract = Contract(shape=(16, 12, 8))
    expected = preprocess(Volume(hu, affine=made.affine(hu.shape)), contract)
    found = preprocess(open_scan(folder), contract)
    np.testing.assert_allclose(found.volume, expected.volume, rtol=0, atol=1e-6)


def test_any_file_stands_for_its_series(folder: Path, hu: NDArray[np.int16]) -> None:
    assert np.array_equal(hu_of(open_scan(folder / "007.dcm")), hu)


def test_names_do_not_matter(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    folder = made.write_series(tmp_path / "series", hu, name="IM{:03}")
    assert np.array_equal(hu_of(open_scan(folder)), hu)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.name
)
def test_uncompressed_syntaxes(tmp_path: Path, hu: NDArray[np.int16], syntax: UID) -> None:
    for number, dataset in enumerate(made.series_datasets(hu)):
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
        made.save(dataset, tmp_path / str(number), syntax)
    assert np.array_equal(hu_of(open_scan(tmp_path)), hu)


@pytest.mark.parametrize("syntax", COMPRESSED, ids=lambda uid: uid.name)
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_compressed_syntaxes(folder: Path, hu: NDArray[np.int16], syntax: UID, signed: bool) -> None:
    if signed:
        change_all(folder, lambda dataset, _: store_signed(dataset))
    for path in folder.iterdir():
        made.compress(path, syntax)
    scan = open_scan(folder)
    assert dcmread(folder / "000.dcm").file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(hu_of(scan), hu)
    assert scan.dtype == (np.int16 if signed else np.uint16)


def store_signed(dataset: Dataset) -> None:
    stored = np.frombuffer(dataset.PixelData, np.uint16).reshape(dataset.Rows, dataset.Columns)
    dataset.RescaleIntercept = 0
    made.set_pixels(dataset, stored.astype(np.int16) + made.INTERCEPT, np.int16)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint32])
def test_other_widths(folder: Path, hu: NDArray[np.int16], dtype: Any) -> None:
    limits = np.iinfo(dtype)

    def store(dataset: Dataset, number: int) -> None:
        plane = np.frombuffer(dataset.PixelData, np.uint16).reshape(dataset.Rows, dataset.Columns) // 20
        dataset.RescaleSlope, dataset.RescaleIntercept = 20, made.INTERCEPT
        made.set_pixels(dataset, np.clip(plane, limits.min, limits.max), dtype)

    change_all(folder, store)
    expected = np.clip((hu.astype(int) - made.INTERCEPT) // 20, limits.min, limits.max) * 20 + made.INTERCEPT
    assert np.array_equal(hu_of(open_scan(folder)), expected)


@pytest.mark.parametrize("kind", ["u2", "i2"])
def test_bits_that_are_not_the_pixels_do_not_count(folder: Path, hu: NDArray[np.int16], kind: str) -> None:
    """12 bits stored in 16, the four above them full of an overlay."""

    def overlay(dataset: Dataset, number: int) -> None:
        stored = np.frombuffer(dataset.PixelData, "u2").reshape(dataset.Rows, dataset.Columns).astype(int)
        if kind == "i2":
            stored, dataset.RescaleIntercept = stored + made.INTERCEPT, 0
        made.set_pixels(dataset, (stored & 0x0FFF) | 0xA000, "u2", bits=12)
        dataset.PixelRepresentation = int(kind == "i2")

    change_all(folder, overlay)
    assert np.array_equal(hu_of(open_scan(folder)), hu)


def test_a_slope_for_each_slice(folder: Path, hu: NDArray[np.int16]) -> None:
    def scale(dataset: Dataset, number: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + number, -100 * number

    change_all(folder, scale)
    top = hu.shape[2] - 1
    expected = np.stack(
        [(hu[:, :, k] - float(made.INTERCEPT)) * (0.5 + top - k) - 100 * (top - k) for k in range(top + 1)], axis=2
    )
    scan = open_scan(folder)
    np.testing.assert_allclose(hu_of(scan), expected, rtol=1e-6)
    assert (scan.dtype.name, scan.slope, scan.intercept) == ("float32", 1, 0)


def test_an_enhanced_file_is_a_scan(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    path = made.save(made.enhanced_dataset(hu), tmp_path / "series" / "enhanced")
    for name in (path, path.parent):
        scan = open_scan(name)
        assert np.array_equal(hu_of(scan), hu)
        assert scan.affine is not None
        np.testing.assert_allclose(scan.affine, made.affine(hu.shape), atol=1e-12)
        assert scan.flags == ()


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, RLELossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_an_enhanced_file_may_be_compressed(tmp_path: Path, hu: NDArray[np.int16], syntax: UID) -> None:
    path = made.compress(made.save(made.enhanced_dataset(hu), tmp_path / "enhanced.dcm"), syntax)
    scan = open_scan(path)
    assert np.array_equal(hu_of(scan), hu)
    few = [plane.copy() for plane in scan.planes([1, 5])]
    assert np.array_equal(few, hu[:, :, [1, 5]].T - made.INTERCEPT), "frames are found one by one"


def test_a_sagittal_series_is_turned_by_its_directions(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    """Rows toward the back, columns downward, slices from the patient's right to the left."""
    folder = made.write_series(tmp_path / "series", hu)

    def turn(dataset: Dataset, number: int) -> None:
        dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        dataset.ImagePositionPatient = [number * made.STEP, 0, 0]

    change_all(folder, turn)
    scan = open_scan(folder)
    # The normal of these directions points to the patient's right: slices are put in order along it.
    assert scan.axis_code == "PIR"
    assert np.array_equal(hu_of(scan), hu)


def test_what_each_slice_says_goes_before_names_and_numbers(folder: Path, hu: NDArray[np.int16]) -> None:
    def shuffle(dataset: Dataset, number: int) -> None:
        dataset.InstanceNumber = (5 * number) % 12

    change_all(folder, shuffle)
    assert np.array_equal(hu_of(open_scan(folder)), hu)


def test_planes_that_are_not_needed_are_not_opened(folder: Path, hu: NDArray[np.int16]) -> None:
    scan = open_scan(folder)
    (folder / "000.dcm").unlink()  # the uppermost slice
    planes = [plane.copy() for plane in scan.planes([0, 3])]
    assert np.array_equal(planes, hu[:, :, [0, 3]].T - made.INTERCEPT)
    assert scan.reading_ms > 0


def pad(columns: slice, stored: int, declared: int, limit: int | None = None) -> Callable[[Dataset, int], None]:
    """Write a stored number into columns of every slice, and declare a padding value, perhaps another one."""

    def change(dataset: Dataset, number: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, np.uint16).reshape(dataset.Rows, dataset.Columns).copy()
        pixels[:, columns] = stored
        made.set_pixels(dataset, pixels, np.uint16)
        for tag, value in ((0x00280120, declared), (0x00280121, limit)):
            if value is not None:
                dataset.add_new(tag, "US" if value >= 0 else "SS", value)

    return change


@pytest.mark.parametrize(
    ("declared", "limit"),
    [(63536, None), (-2000, None), (63500, 63600), (63600, 63500), (-2036, -1936)],
    ids=["unsigned", "with a sign", "a range", "a range from above", "a range with a sign"],
)
def test_padding_that_would_shine_is_air(folder: Path, hu: NDArray[np.int16], declared: int, limit: int | None) -> None:
    change_all(folder, pad(slice(3), 63536, declared, limit))
    scan = open_scan(folder)
    found = hu_of(scan)
    assert (found[:3] == -1024).all()
    assert np.array_equal(found[3:], hu[3:])
    assert codes(scan) == ["pixel_padding"]


def test_each_slice_may_declare_another_padding_value(folder: Path, hu: NDArray[np.int16]) -> None:
    def change(dataset: Dataset, number: int) -> None:
        if number != 4:
            pad(slice(3), 60000 + number, 60000 + number)(dataset, number)

    change_all(folder, change)
    scan = open_scan(folder)
    found, unchanged = hu_of(scan), hu.shape[2] - 1 - 4
    padded = np.arange(hu.shape[2]) != unchanged
    assert (found[:3, :, padded] == -1024).all()
    assert np.array_equal(found[3:], hu[3:])
    assert np.array_equal(found[:, :, unchanged], hu[:, :, unchanged])
    assert codes(scan) == ["pixel_padding"]


def test_padding_with_the_number_of_tissue_is_air_outside_the_image_only(folder: Path, hu: NDArray[np.int16]) -> None:
    """Stored 2048 is water, 0 HU: the patient has it too."""
    change_all(folder, pad(slice(3), 2048, 2048))
    change_all(folder, pad(slice(10, 11), 2048, 2048))
    found = hu_of(open_scan(folder))
    assert (found[:3] == -1024).all()
    assert (found[10] == 0).all()
    assert np.array_equal(found[11:], np.where(hu == 0, found, hu)[11:])


def test_a_padding_range_that_holds_the_patient_is_not_believed(folder: Path, hu: NDArray[np.int16]) -> None:
    change_all(folder, pad(slice(0), 0, 0, 2100))
    scan = open_scan(folder)
    assert np.array_equal(hu_of(scan), hu)
    assert codes(scan) == ["pixel_padding"]
    assert "not taken as padding" in scan.flags[0].detail


@pytest.mark.parametrize("limit", [None, 1000])
def test_padding_that_looks_like_air_is_left_alone(folder: Path, hu: NDArray[np.int16], limit: int | None) -> None:
    change_all(folder, pad(slice(0), 0, 0, limit))
    scan = open_scan(folder)
    assert scan.flags == ()
    assert np.array_equal(hu_of(scan), hu)


def test_the_planes_are_those_that_pydicom_reads(folder: Path) -> None:
    """Uncompressed pixels are read by their place in the file; pydicom parses the file again."""
    scan = open_scan(folder)
    for path, plane in zip(sorted(folder.iterdir(), reverse=True), scan.planes(range(scan.shape[2])), strict=True):
        assert np.array_equal(plane, dcmread(path).pixel_array)
