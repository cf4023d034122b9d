"""Series as they should not be: each gets its code, and nothing is guessed in silence."""

import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import dicom_files as made
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from ct3d_edge.errors import RefusedScanError, ScanError, UnreadableScanError
from ct3d_edge.quality_control.check_registry import CHECKS
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.qc_flag import QCFlag

from .test_series import change_all, hu_of

Change = Callable[[Dataset, int], None]


def code_of(path: Path) -> str:
    with pytest.raises(ScanError) as caught:
        list(open_scan(path).planes(range(3)))
    for secret in (made.PATIENT_NAME, made.PATIENT_ID):
        assert secret not in str(caught.value)
    return caught.value.code


def flags_of(path: Path) -> list[tuple[str, str, object]]:
    return [(flag.code, flag.severity, flag.value) for flag in open_scan(path, raise_refused=False).flags]


def setting(**values: object) -> Change:
    """Set elements in every file; None deletes one."""

    def change(dataset: Dataset, number: int) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return change


def only(numbers: int | set[int], change: Change) -> Change:
    """Change only the files of these numbers, counted from the top."""
    wanted = {numbers} if isinstance(numbers, int) else numbers
    return lambda dataset, number: change(dataset, number) if number in wanted else None


@pytest.fixture
def folder(tmp_path: Path, hu: NDArray[np.int16]) -> Path:
    return made.write_series(tmp_path / "series", hu)


# Files


def test_files_without_preamble_are_read_and_remarked(folder: Path, hu: NDArray[np.int16]) -> None:
    for path in folder.iterdir():
        dataset = dcmread(path)
        del dataset.file_meta
        dataset.save_as(path, implicit_vr=True, little_endian=True)
    assert np.array_equal(hu_of(open_scan(folder)), hu)
    assert flags_of(folder) == [("no_preamble", "warn", 12)]


@pytest.mark.parametrize("kept", [0, 100, 140, 400, "pixels", "all but one"])
def test_a_file_that_ends_early_stops_the_series_or_is_told(folder: Path, kept: int | str) -> None:
    path = folder / "005.dcm"
    data = path.read_bytes()
    pixels = 24 * 20 * 2
    cut = {"pixels": len(data) - pixels // 2, "all but one": len(data) - 1}.get(str(kept), kept)
    path.write_bytes(data[: int(cut)])
    if kept in ("pixels", "all but one"):
        assert code_of(folder) == "truncated"
    else:  # whose it is cannot be known, but a slice is missing
        assert ("unreadable_files", "warn", 1) in flags_of(folder)
        assert code_of(folder) == "missing_slices"


def test_a_deflated_file_that_would_take_the_memory_is_refused_before_it_does(
    tmp_path: Path, hu: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ct3d_edge.scan.dicom.pixel_storage.read_available_memory", lambda: 1 << 28)
    dataset = made.series_datasets(hu)[0]
    dataset.add_new(0x00091001, "OB", bytes(1 << 29))  # half a gigabyte of nothing
    path = made.save(dataset, tmp_path / "bomb.dcm", DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 1 << 20
    del dataset
    tracemalloc.start()
    assert code_of(path) == "too_large"
    assert tracemalloc.get_traced_memory()[1] < 1 << 27
    tracemalloc.stop()


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, RLELossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_a_compressed_file_that_ends_early_is_truncated(folder: Path, syntax: object) -> None:
    for path in folder.iterdir():
        made.compress(path, syntax)  # type: ignore[arg-type]
    path = folder / "005.dcm"
    path.write_bytes(path.read_bytes()[:-40])
    assert code_of(folder) == "truncated"


def test_damaged_compressed_pixels_are_named(folder: Path) -> None:
    for path in folder.iterdir():
        data = bytearray(made.compress(path, JPEG2000Lossless).read_bytes())
        start = data.index(b"\xff\x4f\xff\x51")
        data[start : start + 40] = bytes(40)
        path.write_bytes(data)
    assert code_of(folder) == "pixel_decode_error"


def test_an_enhanced_file_that_lacks_its_last_frames_is_truncated(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    path = made.save(made.enhanced_dataset(hu), tmp_path / "enhanced.dcm")
    path.write_bytes(path.read_bytes()[: -2 * 24 * 20 * 2])
    assert code_of(path) == "truncated"


@pytest.mark.parametrize(
    ("syntax", "packages"),
    [
        (JPEGLosslessSV1, "python-gdcm"),
        (JPEG2000Lossless, "python-gdcm"),
        (HTJ2KLossless, "pylibjpeg pylibjpeg-openjpeg"),
        (JPEGExtended12Bit, "pylibjpeg pylibjpeg-libjpeg"),
    ],
    ids=["JPEG Lossless", "JPEG 2000", "HTJ2K", "JPEG Extended"],
)
def test_a_decoder_that_is_not_installed_is_named_with_its_package(folder: Path, syntax: UID, packages: str) -> None:
    """In a process of its own, in which no plugin can be imported."""
    for path in folder.iterdir():
        dataset = dcmread(made.compress(path, JPEGLosslessSV1))
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path)
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['gdcm', 'PIL', 'pylibjpeg', 'libjpeg', 'openjpeg', 'jpeg_ls']))\n"
        "from pathlib import Path; from ct3d_edge.scan.loader import open_scan\n"
        "try: open_scan(Path(sys.argv[1]))\n"
        "except Exception as error: print(error.code, error)"
    )
    done = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("missing_decoder ")
    assert syntax.name in done.stdout
    assert done.stdout.endswith(f"no decoder for it is installed: pip install {packages}\n")
    assert done.stderr == ""


def test_jpeg_extended_of_twelve_bits_is_decoded_or_its_package_named(tmp_path: Path, hu: NDArray[np.int16]) -> None:
    """Against DCMTK's decoder. GDCM reads 8 bits of it."""
    if not (shutil.which("dcmcjpeg") and shutil.which("dcmdjpeg")):
        pytest.skip("needs DCMTK, which compresses the series")
    for number, dataset in enumerate(made.series_datasets(hu)):
        made.set_pixels(dataset, hu[:, :, number].T - made.INTERCEPT, np.uint16, bits=12)
        made.save(dataset, tmp_path / "plain" / f"{number}.dcm")
    for path in (tmp_path / "plain").iterdir():
        for folder, command in (("jpeg", ["dcmcjpeg", "+ee"]), ("decoded", ["dcmdjpeg"])):
            (tmp_path / folder).mkdir(exist_ok=True)
            source = tmp_path / ("plain" if folder == "jpeg" else "jpeg") / path.name
            subprocess.run([*command, source, tmp_path / folder / path.name], check=True, capture_output=True)
    if find_spec("libjpeg") is None:
        with pytest.raises(ScanError, match=r"JPEG Extended.*pip install pylibjpeg pylibjpeg-libjpeg") as caught:
            open_scan(tmp_path / "jpeg")
        assert caught.value.code == "missing_decoder"
        return
    found, expected = hu_of(open_scan(tmp_path / "jpeg")), hu_of(open_scan(tmp_path / "decoded"))
    assert np.abs(found - expected).max() <= 1
    assert np.abs(found - hu).max() < 50


def test_a_compression_that_nobody_reads_is_named(folder: Path) -> None:
    for path in folder.iterdir():
        made.compress(path, RLELossless)
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.8\0"))
    assert code_of(folder) == "missing_decoder"


def test_without_pydicom_a_dicom_file_names_what_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for path in (folder, folder / "003.dcm"):
        with pytest.raises(
            UnreadableScanError, match=r'is DICOM; pydicom.*missing.*: pip install "pydicom>='
        ) as caught:
            open_scan(path)
        assert caught.value.code == "dicom_support_missing"


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID, report.Modality = "1.2.840.10008.5.1.4.1.1.88.11", "1.2", "SR"
    assert code_of(made.save(report, tmp_path / "report.dcm")) == "no_pixel_data"
    (tmp_path / "text.dcm").write_text("not DICOM at all, although it is called so. " * 9)
    assert code_of(tmp_path / "text.dcm") == "not_dicom"
    (tmp_path / "empty.dcm").touch()
    assert code_of(tmp_path / "empty.dcm") == "empty"
    (tmp_path / "noise.dcm").write_bytes(bytes(128) + b"DICM" + np.random.default_rng(0).bytes(4000))
    assert code_of(tmp_path / "noise.dcm") in ("not_dicom", "truncated", "no_pixel_data")


# Elements


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


# Slices


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


def test_a_transfer_syntax_beyond_the_plugins_is_named(folder: Path) -> None:
    """HTJ2K: no decoder of ct3d-edge's reads it; if another plugin is installed, it has to fail on these bytes."""
    for path in folder.iterdir():
        dataset = dcmread(made.compress(path, RLELossless))
        dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
        dataset.save_as(path)
    assert code_of(folder) in ("missing_decoder", "pixel_decode_error")


ENCODINGS = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLosslessSV1, JPEG2000Lossless, RLELossless]


@pytest.mark.slow
@pytest.mark.parametrize("syntax", ENCODINGS, ids=lambda uid: uid.name)
def test_whatever_bytes_are_damaged_the_fault_has_a_code(folder: Path, syntax: UID) -> None:
    """Bytes changed, cut out, or cut off: the series is read, or an error with a code says why not."""
    path = folder / "005.dcm"
    if syntax == ImplicitVRLittleEndian:
        made.save(dcmread(path), path, syntax)
    elif syntax != ExplicitVRLittleEndian:
        made.compress(path, syntax)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    codes = set()
    for _ in range(40):
        at, length = int(rng.integers(128, len(whole) - 40)), int(rng.integers(1, 20))
        damage = [rng.bytes(length), b"", whole[at : at + length] * 2][int(rng.integers(3))]
        path.write_bytes(whole[:at] + damage + whole[at + length :])
        for name in (folder, path):
            try:
                list(open_scan(name, raise_refused=False).planes(range(3)))
            except ScanError as error:
                codes.add(error.code)
    assert codes <= {rule.code for rule in CHECKS}
    assert "truncated" in codes
