import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from builders import MakeScan
from numpy.typing import NDArray
from products import each_pair, each_value

from ct3d_edge.contract import Contract
from ct3d_edge.errors import RefusedScanError, ScanError, UnreadableScanError
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.quality_control.checker import QualityChecker
from ct3d_edge.scan.gzip_reader import ScanReader
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.nifti import NiftiScan, read_nifti
from ct3d_edge.scan.volume import Scan

WriteNifti = Callable[..., Path]

AFFINE = np.diag([-2.0, 2.0, 8.0, 1.0])
HEADER = {1: 348, 2: 540}


def code_of(path: Path) -> str:
    with pytest.raises(ScanError) as caught:
        read_nifti(path)
    assert path.stem in str(caught.value)
    return caught.value.code


def flags_of(volume: Scan) -> list[str]:
    return [flag.code for flag in volume.flags]


@pytest.mark.parametrize(
    ("version", "endian", "kind", "name"),
    each_pair(
        [1, 2],
        ["<", ">"],
        ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"],
        ["scan.nii", "scan.nii.gz", "scan.hdr"],
    ),
)
def test_every_number_type_is_read_as_it_was_stored(
    write_nifti: WriteNifti, name: str, kind: str, endian: str, version: int
) -> None:
    stored = np.arange(120).reshape(6, 5, 4).astype(endian + kind)
    volume = read_nifti(write_nifti(name, stored, endian=endian, version=version))
    np.testing.assert_array_equal(volume.stored, stored)
    assert volume.stored.dtype == stored.dtype
    assert volume.shape == (6, 5, 4)
    assert volume.affine is not None
    np.testing.assert_array_equal(volume.affine, AFFINE)
    assert volume.flags == ()


def test_a_file_that_nibabel_wrote_reads_as_nibabel_reads_it(
    make_scan: Callable[..., Path], hu: NDArray[np.int16]
) -> None:
    path = make_scan()
    volume, image = read_nifti(path), nib.load(path)
    np.testing.assert_array_equal(volume.stored, np.asarray(image.dataobj))
    assert volume.affine is not None
    np.testing.assert_array_equal(volume.affine, image.affine)
    assert volume.spacing == (2.0, 2.0, 8.0)
    assert volume.axis_code == "LAS"
    assert volume.obliquity == 0


@pytest.mark.parametrize("rank", [4, 5, 7])
def test_trailing_axes_of_length_one_are_dropped(write_nifti: WriteNifti, voxels: NDArray[np.int16], rank: int) -> None:
    path = write_nifti(voxels=voxels.reshape(6, 5, 4, *[1] * (rank - 3)))
    np.testing.assert_array_equal(read_nifti(path).stored, voxels)


def test_dimensions_beyond_the_rank_are_ignored(write_nifti: WriteNifti) -> None:
    assert read_nifti(write_nifti(dim=[3, 6, 5, 4, 0, -7, 9, 0])).shape == (6, 5, 4)


@pytest.mark.parametrize("name", ["study.hdr", "study.img", "STUDY.HDR", "STUDY.IMG"])
def test_a_pair_is_read_from_either_file(write_nifti: WriteNifti, voxels: NDArray[np.int16], name: str) -> None:
    np.testing.assert_array_equal(read_nifti(write_nifti(name)).stored, voxels)


@pytest.mark.parametrize("missing", [".hdr", ".img"])
@pytest.mark.parametrize("asked", [".hdr", ".img"])
def test_half_a_pair_is_not_found(write_nifti: WriteNifti, missing: str, asked: str) -> None:
    path = write_nifti("study.hdr")
    path.with_suffix(missing).unlink()
    with pytest.raises(UnreadableScanError, match=f"study{missing} does not exist") as caught:
        read_nifti(path.with_suffix(asked))
    assert caught.value.code == "not_found"


def test_voxels_of_a_pair_may_begin_later(write_nifti: WriteNifti, voxels: NDArray[np.int16]) -> None:
    path = write_nifti("study.hdr", vox_offset=16)
    image = path.with_suffix(".img")
    image.write_bytes(bytes(16) + image.read_bytes())
    np.testing.assert_array_equal(read_nifti(path).stored, voxels)


@pytest.mark.parametrize("name", ["SCAN.NII", "SCAN.NII.GZ", "Scan.Nii.Gz"])
def test_names_in_capitals_are_as_good(write_nifti: WriteNifti, voxels: NDArray[np.int16], name: str) -> None:
    volume = read_nifti(write_nifti(name))
    np.testing.assert_array_equal(volume.stored, voxels)
    assert volume.flags == ()


@pytest.mark.parametrize(("written", "renamed"), [("a.nii", "b.nii.gz"), ("a.nii.gz", "b.nii")])
def test_a_misnamed_file_is_read_and_remarked(
    write_nifti: WriteNifti, voxels: NDArray[np.int16], written: str, renamed: str
) -> None:
    path = write_nifti(written)
    volume = read_nifti(path.rename(path.with_name(renamed)))
    np.testing.assert_array_equal(volume.stored, voxels)
    assert [(flag.code, flag.severity) for flag in volume.flags] == [("extension_mismatch", "warn")]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_header_extension_is_skipped(
    write_nifti: WriteNifti, voxels: NDArray[np.int16], name: str, version: int
) -> None:
    gap = b"\1\0\0\0" + (32).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"x" * 24
    path = write_nifti(name, version=version, gap=gap, vox_offset=HEADER[version] + len(gap))
    np.testing.assert_array_equal(read_nifti(path).stored, voxels)


@pytest.mark.parametrize("version", [1, 2])
def test_an_offset_left_at_zero_means_right_behind_the_header(
    write_nifti: WriteNifti, voxels: NDArray[np.int16], version: int
) -> None:
    np.testing.assert_array_equal(read_nifti(write_nifti(version=version, vox_offset=0)).stored, voxels)


def test_a_gzip_file_of_several_members_is_one_scan(write_nifti: WriteNifti, voxels: NDArray[np.int16]) -> None:
    data = write_nifti("a.nii").read_bytes()
    path = write_nifti("b.nii.gz")
    path.write_bytes(gzip.compress(data[:100]) + gzip.compress(data[100:400]) + gzip.compress(data[400:]))
    np.testing.assert_array_equal(read_nifti(path).stored, voxels)


def test_bytes_behind_the_voxels_do_not_matter(write_nifti: WriteNifti, voxels: NDArray[np.int16]) -> None:
    for name in ("a.nii", "a.nii.gz", "a.hdr"):
        np.testing.assert_array_equal(read_nifti(write_nifti(name, tail=b"padding")).stored, voxels)


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"),
    [
        (1, 0, (1, 0)),
        (0.5, -1024, (0.5, -1024)),
        (-2, 3, (-2, 3)),
        (0, 0, (1, 0)),
        (0, 55, (1, 0)),
        (np.nan, 55, (1, 0)),
        (np.inf, 55, (1, 0)),
        (np.nan, np.nan, (1, 0)),
    ],
)
def test_a_slope_of_zero_or_nan_means_unscaled(
    write_nifti: WriteNifti, slope: float, intercept: float, expected: tuple[float, float]
) -> None:
    volume = read_nifti(write_nifti(scl_slope=slope, scl_inter=intercept))
    assert (volume.slope, volume.intercept) == expected


# Geometry


def quaternion_only(**fields: object) -> dict[str, object]:
    """Header fields of a scan that lies LAS by its qform alone: half a turn, and the third axis reversed."""
    lying = {"quatern_b": 0, "quatern_c": 1, "quatern_d": 0, "pixdim": [-1, 2, 3, 8, 0, 0, 0, 0]}
    return {"sform_code": 0, "qform_code": 1, **lying, **fields}


def test_the_qform_is_used_where_there_is_no_sform(write_nifti: WriteNifti) -> None:
    volume = read_nifti(write_nifti(**quaternion_only()))
    assert volume.axis_code == "LAS"
    assert volume.spacing == (2, 3, 8)


def test_the_sform_goes_before_the_qform(write_nifti: WriteNifti) -> None:
    assert read_nifti(write_nifti(**quaternion_only(sform_code=2))).spacing == (2, 2, 8)


@pytest.mark.parametrize("qfac", [0, 1, 3])
def test_only_a_negative_qfac_reverses_the_third_axis(write_nifti: WriteNifti, qfac: float) -> None:
    volume = read_nifti(write_nifti(**quaternion_only(pixdim=[qfac, 2, 3, 8, 0, 0, 0, 0])))
    assert volume.axis_code == "LAI"
    assert volume.flags == ()


@pytest.mark.parametrize(
    ("quaternion", "pixdim", "expected"),
    [
        ({}, [-1, 2, 2, 8], []),
        ({}, [-1, 2, 2.05, 8], []),
        ({}, [-1, 2, 3, 8], [("qform_sform", "warn", 4.0)]),
        ({}, [1, 2, 2, 8], [("qform_sform", "refuse", 48.0)]),
        ({"quatern_c": 0}, [1, 2, 2, 8], [("qform_sform", "refuse", 20.0)]),
    ],
    ids=["the same", "nearly the same", "another spacing", "upside down", "left for right"],
)
def test_two_orientations_that_contradict_each_other_are_found(
    write_nifti: WriteNifti, quaternion: dict[str, object], pixdim: list[float], expected: list[object]
) -> None:
    fields = quaternion_only(sform_code=1, pixdim=[*pixdim, 0, 0, 0, 0], **quaternion)
    volume = read_nifti(write_nifti(**fields))
    found = [(flag.code, flag.severity, flag.value) for flag in volume.flags]
    assert found == expected
    assert volume.axis_code == "LAS", "the sform is taken"


@pytest.mark.parametrize(("degrees", "expected"), [(0.5, []), (15.0, ["gantry_tilt"]), (-15.0, ["gantry_tilt"])])
def test_a_sheared_affine_is_refused_at_the_door_and_by_name(
    write_nifti: WriteNifti, degrees: float, expected: list[str]
) -> None:
    path = write_nifti(srow_y=[0, 2, 8 * np.tan(np.deg2rad(degrees)), 0])
    assert flags_of(read_nifti(path)) == expected
    if expected:
        with pytest.raises(RefusedScanError, match=r"15\.0 degrees from the perpendicular"):
            open_scan(path)
    assert flags_of(open_scan(path, allow=["gantry_tilt"])) == expected


def test_without_codes_there_is_no_affine(write_nifti: WriteNifti) -> None:
    volume = read_nifti(write_nifti(sform_code=0, qform_code=0))
    assert (volume.affine, volume.spacing, volume.axis_code, volume.obliquity) == (None, None, None, 0)
    assert volume.flags == ()


UNUSABLE: dict[str, dict[str, object]] = {
    "sform of zeros": {"srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4},
    "sform with NaN": {"srow_x": [np.nan, 0, 0, 0]},
    "sform with infinity": {"srow_z": [0, 0, np.inf, 0]},
    "two parallel axes": {"srow_x": [1, 1, 0, 0], "srow_y": [0, 0, 0, 0]},
    "quaternion longer than one": quaternion_only(quatern_b=3),
    "quaternion with NaN": quaternion_only(quatern_d=np.nan),
    "both unusable": quaternion_only(sform_code=1, srow_x=[0] * 4, quatern_b=3),
}


ROUNDED = {"quatern_c": np.nextafter(np.float32(1), np.float32(2)) + np.float32(1e-5)}
ZEROS: dict[str, object] = {"srow_x": [0] * 4, "srow_y": [0] * 4, "srow_z": [0] * 4}
REPAIRED: dict[str, tuple[dict[str, object], str, tuple[float, float, float], str]] = {
    "sform of zeros beside a good qform": (quaternion_only(sform_code=1, **ZEROS), "LAS", (2, 3, 8), "sform"),
    "singular sform beside a good qform": (
        quaternion_only(sform_code=2, srow_x=[1, 1, 0, 0], srow_y=[0] * 4),
        "LAS",
        (2, 3, 8),
        "sform",
    ),
    "sform with NaN beside a good qform": (
        quaternion_only(sform_code=1, srow_z=[np.nan, 0, 0, 0]),
        "LAS",
        (2, 3, 8),
        "sform",
    ),
    "quaternion out of range by rounding": (quaternion_only(**ROUNDED), "LAS", (2, 3, 8), "quaternion has the length"),
    "one voxel edge of 0": (quaternion_only(pixdim=[-1, 2, 0, 8, 0, 0, 0, 0]), "LAS", (2, 1, 8), "was taken as 1"),
    "no voxel edges": (quaternion_only(pixdim=[-1, 0, 0, 0, 0, 0, 0, 0]), "LAS", (1, 1, 1), "was taken as 1"),
    "a negative voxel edge": (quaternion_only(pixdim=[-1, -2, 3, 8, 0, 0, 0, 0]), "LAS", (2, 3, 8), "sign"),
}


@pytest.mark.parametrize(("fields", "code", "spacing", "said"), REPAIRED.values(), ids=REPAIRED)
def test_what_the_header_does_say_is_used_and_the_repair_is_told(
    write_nifti: WriteNifti, fields: dict[str, object], code: str, spacing: tuple[float, float, float], said: str
) -> None:
    volume = read_nifti(write_nifti(**fields))
    assert (volume.axis_code, flags_of(volume)) == (code, ["affine_repaired"])
    assert volume.spacing == pytest.approx(spacing)
    assert said in volume.flags[0].detail


@pytest.mark.parametrize("fields", [{}, quaternion_only()], ids=["sform", "qform"])
@pytest.mark.parametrize(("unit", "factor"), [(1, 1e-3), (3, 1e3), (2, 1.0), (0, 1.0), (10, 1.0), (11, 1e3)])
def test_the_unit_of_length_is_honoured(
    write_nifti: WriteNifti, fields: dict[str, object], unit: int, factor: float
) -> None:
    """The same 2 x 2 x 8 mm, written in metres, micrometres and millimetres, with and without a unit of time."""
    rows = {"srow_x": [-2 * factor, 0, 0, 0], "srow_y": [0, 2 * factor, 0, 0], "srow_z": [0, 0, 8 * factor, 0]}
    sizes = {"pixdim": [-1, 2 * factor, 2 * factor, 8 * factor, 0, 0, 0, 0]}
    volume = read_nifti(write_nifti(**{**fields, **rows, **sizes, "xyzt_units": unit}))
    assert volume.spacing == pytest.approx((2, 2, 8))
    assert flags_of(volume) == ([] if factor == 1 else ["length_unit"])


@pytest.mark.parametrize("axes", ["LAS", "RAS", "LPS", "PIR", "SAL"])
def test_affines_are_those_of_nibabel(write_nifti: WriteNifti, axes: str) -> None:
    """The obvious implementation: nibabel's own, of headers that it accepts."""
    to_axes = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(axes), (6, 5, 4)) @ np.diag([2, 3, 8, 1])
    header = nib.Nifti1Header()
    header.set_qform(to_axes, 1)
    names = ["qform_code", "pixdim", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"]
    volume = read_nifti(write_nifti(sform_code=0, **{name: header[name] for name in names}))
    assert volume.affine is not None
    np.testing.assert_allclose(volume.affine, header.get_qform(), atol=1e-5)


@pytest.mark.parametrize("fields", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_affine_is_ignored_and_remarked(write_nifti: WriteNifti, fields: dict[str, object]) -> None:
    volume = read_nifti(write_nifti(**fields))
    assert volume.affine is None
    assert flags_of(volume) == ["bad_affine"]


@pytest.mark.parametrize("entry", [1e7, 1e160, -1e308, 1e-320])
@pytest.mark.parametrize("fields", [{}, quaternion_only()], ids=["sform", "qform"])
def test_an_affine_beyond_all_measure_overflows_nowhere(
    write_nifti: WriteNifti, fields: dict[str, object], entry: float
) -> None:
    """Found by damaging headers at random: the second version's entries are float64, and their squares overflow."""
    far: dict[str, object] = {"srow_y": [0, entry, 0, 0], "pixdim": [1, 2, abs(entry), 8, 0, 0, 0, 0]}
    volume = read_nifti(write_nifti(version=2, **{**fields, **far}))
    assert volume.obliquity == 0
    assert flags_of(volume) in ([], ["bad_affine"])
    assert flags_of(volume) == ["bad_affine"] or abs(entry) < 1


def test_voxels_without_extent_have_no_direction(write_nifti: WriteNifti) -> None:
    """Found by damaging headers at random: squares of entries this small are 0, and their angles 0 divided by 0."""
    rows = {"srow_x": [-1e-170, 0, 0, 0], "srow_y": [0, 1e-170, 0, 0], "srow_z": [0, 0, 1e-170, 0]}
    volume = read_nifti(write_nifti(version=2, **rows))
    assert (volume.affine, volume.obliquity) == (None, 0)
    assert flags_of(volume) == ["bad_affine"]


@pytest.mark.parametrize("degrees", [0.0, 3.0, 12.0, -30.0])
def test_obliquity_is_the_angle_of_the_tilt(write_nifti: WriteNifti, degrees: float) -> None:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    volume = read_nifti(write_nifti(srow_y=[0, 2 * cos, -8 * sin, 0], srow_z=[0, 2 * sin, 8 * cos, 0]))
    assert volume.obliquity == pytest.approx(abs(degrees), abs=1e-4)
    assert volume.axis_code == "LAS"


# What is refused


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


def test_a_scan_that_would_take_the_machines_memory_is_refused(
    make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_scan()
    monkeypatch.setattr("ct3d_edge.scan.streamed_scan.read_available_memory", lambda: 1000)
    assert code_of(path) == "too_large"


def test_streamed_planes_are_those_of_the_volume(make_scan: MakeScan) -> None:
    for path in (make_scan("a.nii"), make_scan("b.nii.gz")):
        volume = read_nifti(path)
        scan = NiftiScan(path)
        streamed = [plane.copy() for plane in scan.planes([0, 3, 11])]
        assert [plane.tolist() for plane in streamed] == [volume.stored[:, :, k].T.tolist() for k in (0, 3, 11)]
        assert (scan.shape, scan.dtype, scan.slope, scan.intercept) == (volume.shape, volume.dtype, 1, 0)
        assert scan.axis_code == volume.axis_code == "LAS"


@pytest.mark.parametrize(("name", "planes"), [("a.nii", 3), ("b.nii.gz", 12)])
def test_only_a_compressed_file_is_read_whole(
    make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch, name: str, planes: int
) -> None:
    scan = NiftiScan(make_scan(name))
    read: list[int] = []
    fill = ScanReader.fill

    def counted(stream: ScanReader, buffer: memoryview) -> None:
        read.append(len(buffer))
        fill(stream, buffer)

    monkeypatch.setattr(ScanReader, "fill", counted)
    assert len(list(scan.planes([0, 3, 11]))) == 3
    assert read.count(24 * 20 * 2) == planes


@pytest.mark.parametrize("cores", [1, 2])
def test_one_core_reads_what_two_do(make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    path = make_scan()
    monkeypatch.setattr("ct3d_edge.scan.streamed_scan.count_usable_cores", lambda: cores)
    stored = read_nifti(path).stored
    for k, plane in zip((2, 3, 9), NiftiScan(path).planes([2, 3, 9]), strict=True):
        np.testing.assert_array_equal(plane, stored[:, :, k].T)


def test_planes_can_be_streamed_again(make_scan: MakeScan) -> None:
    scan = NiftiScan(make_scan())
    first, second = ([plane.copy() for plane in scan.planes(range(12))] for _ in range(2))
    assert np.array_equal(first, second)


def test_damage_behind_the_last_needed_plane_is_found(make_scan: MakeScan) -> None:
    path = make_scan()
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    scan = NiftiScan(path)
    with pytest.raises(UnreadableScanError) as caught:
        for _ in scan.planes([0]):
            pass
    assert caught.value.code == "bad_checksum"
    assert scan.reading_ms > 0


def test_streaming_holds_three_planes(make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = NiftiScan(make_scan())
    plane = 24 * 20 * 2
    monkeypatch.setattr("ct3d_edge.scan.streamed_scan.read_available_memory", lambda: 6 * plane)
    assert len(list(scan.planes(range(12)))) == 12
    with pytest.raises(UnreadableScanError, match=r"needs 11\.5 kB for its voxels; 5\.76 kB are free"):
        scan.load()


def test_data_behind_a_sound_gzip_stream_give_a_flag(make_scan: MakeScan, hu: NDArray[np.int16]) -> None:
    path = make_scan("scan.nii.gz")
    path.write_bytes(path.read_bytes() + b"<html>proxy error</html>")
    np.testing.assert_array_equal(read_nifti(path).stored, hu)
    assert [flag.code for flag in read_nifti(path).flags] == ["trailing_bytes"]
    contract = Contract(shape=(16, 16, 8))
    assert "trailing_bytes" in [flag.code for flag in preprocess(open_scan(path), contract).flags]
    found = {
        allow: {flag.code: flag.severity for flag in QualityChecker(contract, allow).check(path).flags}
        for allow in ((), ("trailing_bytes",))
    }
    assert found[()]["trailing_bytes"] == "warn"
    assert found["trailing_bytes",]["trailing_bytes"] == "ok"
