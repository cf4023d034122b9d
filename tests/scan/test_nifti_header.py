"""Where the voxels of a NIfTI file lie: affine, codes and unit of length of its header."""

import nibabel as nib
import numpy as np
import pytest

from ct3d_edge.errors import RefusedScanError
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.nifti import read_nifti

from .conftest import WriteNifti, flags_of


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
