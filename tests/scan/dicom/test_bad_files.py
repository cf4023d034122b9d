"""DICOM files that are damaged, compressed in ways that cannot be read, or no images: each gets its code."""

import shutil
import subprocess
import sys
import tracemalloc
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

from ct3d_edge.errors import ScanError, UnreadableScanError
from ct3d_edge.quality_control.check_registry import CHECKS
from ct3d_edge.scan.loader import open_scan

from .conftest import code_of, flags_of
from .test_series import hu_of


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
