import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from products import each_pair

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.scan.nifti import read_nifti

from .conftest import AFFINE, HEADER, WriteNifti


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
