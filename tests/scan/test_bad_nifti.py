"""NIfTI files that are refused, each with its code."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from products import each_pair, each_value

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.scan.nifti import NiftiScan, read_nifti

from .conftest import HEADER, WriteNifti, code_of


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("size", "code"), [(32767, "truncated"), (32768, "bad_header"), (2**56, "bad_header")])
def test_an_axis_that_no_scanner_makes_is_told_before_room_is_made_for_it(
    write_nifti: WriteNifti, axis: int, size: int, code: str
) -> None:
    """Found by damaging headers at random: rows of exabytes were asked for."""
    dim = [3, 6, 5, 4, 1, 1, 1, 1]
    dim[1 + axis] = size
    with pytest.raises(UnreadableScanError) as caught:
        NiftiScan(write_nifti(version=2, dim=dim))
    assert caught.value.code == code


def test_a_pair_without_its_voxels_is_told_by_its_header(write_nifti: WriteNifti) -> None:
    path = write_nifti("pair.hdr")
    path.with_suffix(".img").unlink()
    with pytest.raises(UnreadableScanError, match=r"pair\.img does not exist") as caught:
        NiftiScan(path)
    assert caught.value.code == "not_found"


@pytest.mark.parametrize(
    ("name", "version", "kept"),
    each_pair(["scan.nii", "scan.nii.gz"], [1, 2], ["4", "half the header", "header", "header and gap", "all but one"]),
)
def test_a_file_that_ends_early_is_truncated(write_nifti: WriteNifti, name: str, version: int, kept: str) -> None:
    size = HEADER[version]
    cut = {
        "4": 4,
        "half the header": size // 2,
        "header": size,
        "header and gap": size + 4,
        "all but one": size + 4 + 240 - 1,
    }[kept]
    assert code_of(write_nifti(name, version=version, cut=cut)) == "truncated"


def test_a_pair_whose_image_ends_early_is_truncated(write_nifti: WriteNifti) -> None:
    path = write_nifti("scan.hdr")
    image = path.with_suffix(".img")
    image.write_bytes(image.read_bytes()[:-1])
    assert code_of(path) == "truncated"


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_promise_that_the_file_cannot_hold_is_refused_before_memory_is_taken(
    write_nifti: WriteNifti, name: str
) -> None:
    path = write_nifti(name, dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    with pytest.raises(UnreadableScanError, match=f"declares {2 * 32767**3:,} bytes"):
        read_nifti(path)
    assert code_of(path) == "truncated"


def test_an_offset_behind_the_end_is_truncated(write_nifti: WriteNifti) -> None:
    assert code_of(write_nifti(vox_offset=1e9)) == "truncated"


DICOM = bytes(128) + b"DICM" + bytes(100)

FOREIGN = {
    "text": (b"not a scan at all, but long enough to be one " * 20, "not_nifti"),
    "one byte": (b"n", "not_nifti"),
    "three bytes": (b"abc", "not_nifti"),
    "text in gzip": (gzip.compress(b"not a scan at all, but long enough to be one " * 20), "not_nifti"),
    "dicom": (DICOM, "dicom_support_missing"),
    "dicom that begins like a header": (b"\2\0\0\0" + DICOM[4:], "dicom_support_missing"),
    "empty": (b"", "empty"),
}


@pytest.mark.parametrize(("data", "code"), FOREIGN.values(), ids=FOREIGN)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, data: bytes, code: str) -> None:
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(data)
    assert code_of(path) == code


def test_the_message_shows_how_a_foreign_file_begins(tmp_path: Path) -> None:
    path = tmp_path / "scan.nii"
    path.write_bytes(b"abc")
    with pytest.raises(UnreadableScanError, match="61 62 63"):
        read_nifti(path)


@pytest.mark.parametrize("name", ["scan.nii", "scan.hdr"])
def test_analyze_is_not_nifti(write_nifti: WriteNifti, name: str) -> None:
    path = write_nifti(name, magic=b"")
    assert code_of(path) == "not_nifti"
    with pytest.raises(UnreadableScanError, match="Analyze"):
        read_nifti(path)


def test_a_folder_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").mkdir()
    assert code_of(tmp_path / "scan.nii") == "unreadable"


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    assert code_of(tmp_path / "scan.nii") == "not_found"


BAD_HEADERS: dict[str, dict[str, object]] = {
    "rank 0": {"dim": [0, 6, 5, 4, 1, 1, 1, 1]},
    "rank 8": {"dim": [8, 6, 5, 4, 1, 1, 1, 1]},
    "negative rank": {"dim": [-3, 6, 5, 4, 1, 1, 1, 1]},
    "size 0": {"dim": [3, 6, 0, 4, 1, 1, 1, 1]},
    "negative size": {"dim": [3, 6, 5, -4, 1, 1, 1, 1]},
    "fourth size 0": {"dim": [4, 6, 5, 4, 0, 1, 1, 1]},
    "voxels inside the header": {"vox_offset": 100},
    "negative offset": {"vox_offset": -1},
    "infinite offset": {"vox_offset": np.inf},
    "offset NaN": {"vox_offset": np.nan},
    "unknown data type": {"datatype": 999},
    "intercept NaN": {"scl_slope": 2, "scl_inter": np.nan},
    "intercept infinite": {"scl_slope": 1, "scl_inter": np.inf},
    "voxels said to be in another file": {"magic": b"ni1"},
}


@pytest.mark.parametrize(("name", "fields"), each_value(["scan.nii", "scan.nii.gz"], BAD_HEADERS.values()))
def test_an_impossible_header_is_refused(write_nifti: WriteNifti, name: str, fields: dict[str, object]) -> None:
    assert code_of(write_nifti(name, **fields)) == "bad_header"


@pytest.mark.parametrize("fields", [{"scl_slope": 1e300}, {"scl_slope": -1e39}, {"scl_inter": 1e39}], ids=str)
def test_a_scaling_beyond_float32_is_refused(write_nifti: WriteNifti, fields: dict[str, object]) -> None:
    assert code_of(write_nifti(version=2, **fields)) == "bad_header"


@pytest.mark.parametrize("offset", [0, 352])
def test_a_header_that_wants_another_file_is_refused_whatever_its_offset(write_nifti: WriteNifti, offset: int) -> None:
    assert code_of(write_nifti(magic=b"ni1", vox_offset=offset)) == "bad_header"


def test_a_pair_whose_header_speaks_of_a_single_file_is_refused(write_nifti: WriteNifti) -> None:
    assert code_of(write_nifti("scan.hdr", magic=b"n+1")) == "bad_header"


def test_a_negative_offset_in_a_pair_is_refused(write_nifti: WriteNifti) -> None:
    assert code_of(write_nifti("scan.hdr", vox_offset=-8)) == "bad_header"


@pytest.mark.parametrize("shape", [(24, 5), (120,)])
def test_a_single_image_is_refused(write_nifti: WriteNifti, voxels: NDArray[np.int16], shape: tuple[int, ...]) -> None:
    path = write_nifti(voxels=voxels.reshape(shape))
    assert code_of(path) == "two_dimensional"
    with pytest.raises(RefusedScanError):
        read_nifti(path)


@pytest.mark.parametrize("shape", [(24, 5, 1), (1, 24, 5), (24, 1, 5), (24, 5, 1, 1)])
def test_a_single_slice_is_refused(write_nifti: WriteNifti, voxels: NDArray[np.int16], shape: tuple[int, ...]) -> None:
    assert code_of(write_nifti(voxels=voxels.reshape(shape))) == "single_slice"


@pytest.mark.parametrize("shape", [(6, 5, 2, 2), (6, 5, 2, 1, 2), (3, 5, 2, 2, 2)])
def test_several_volumes_are_refused(
    write_nifti: WriteNifti, voxels: NDArray[np.int16], shape: tuple[int, ...]
) -> None:
    assert code_of(write_nifti(voxels=voxels.reshape(shape))) == "multiple_volumes"


@pytest.mark.parametrize(
    "dtype",
    [np.complex64, np.complex128, [("R", "u1"), ("G", "u1"), ("B", "u1")]],
    ids=["complex64", "complex128", "RGB"],
)
def test_anything_but_real_numbers_is_refused(write_nifti: WriteNifti, dtype: Any) -> None:
    assert code_of(write_nifti(voxels=np.zeros((6, 5, 4), dtype))) == "unsupported_dtype"


@pytest.mark.parametrize("datatype", [0, 1, 1536], ids=["none", "bits", "float128"])
def test_data_types_that_no_array_has_are_refused(write_nifti: WriteNifti, datatype: int) -> None:
    assert code_of(write_nifti(tail=bytes(9999), datatype=datatype)) == "unsupported_dtype"


@pytest.mark.parametrize("fault", ["checksum", "stream", "trailing_data"])
def test_damage_behind_the_header_is_noticed(write_nifti: WriteNifti, fault: str) -> None:
    path = write_nifti("scan.nii.gz", tail=bytes(1 << 21) if fault == "trailing_data" else b"")
    data = bytearray(path.read_bytes())
    if fault == "checksum":
        data[-8] ^= 1
    if fault == "stream":
        data[10] = 0xFF
    path.write_bytes(data)
    expected = {"checksum": "bad_checksum", "stream": "corrupt_gzip", "trailing_data": "trailing_data"}
    assert code_of(path) == expected[fault]
