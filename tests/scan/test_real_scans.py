"""Variants of one real scan, sound and broken, and what each must become."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import RefusedScanError, ScanError
from ct3d_edge.preprocessing import ModelInput, preprocess
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.scan.nifti import read_nifti

SAME_VOXELS: dict[str, list[str]] = {
    "base_int16_LAS.nii.gz": [],
    "bigendian.nii.gz": [],
    "float64.nii.gz": [],
    "int16_slope0.5_inter-1024.nii.gz": [],
    "int16_slope0_means_unscaled.nii.gz": [],
    "uint16_inter-1024.nii.gz": [],
    "nifti2.nii.gz": [],
    "pair.hdr": [],
    "pair.img": [],
    "uncompressed.nii": [],
    "gzip_renamed.nii": ["extension_mismatch"],
    "not_gzip_renamed.nii.gz": ["extension_mismatch"],
    "4d_trailing1.nii.gz": [],
    "orient_RAS.nii.gz": [],
    "orient_PIR.nii.gz": [],
    "orient_SPL.nii.gz": [],
    "oblique12deg.nii.gz": ["oblique"],
    "no_affine_codes0.nii.gz": ["no_orientation"],
}
"""Name to the findings it gives; all hold the same voxels."""

OTHER_VOXELS = {"float32_nan_outside_fov.nii.gz": ["non_finite"], "nonsquare_200x236.nii.gz": []}

BROKEN = {
    "truncated.nii.gz": "truncated",
    "bad_crc.nii.gz": "bad_checksum",
    "empty.nii.gz": "empty",
    "2d_slice.nii.gz": "two_dimensional",
    "single_slice.nii.gz": "single_slice",
    "4d_two_volumes.nii.gz": "multiple_volumes",
}


@pytest.fixture(scope="module")
def odd(real_scans: Path) -> Path:
    return real_scans / "odd"


@pytest.fixture(scope="module")
def base(odd: Path) -> NDArray[np.float32]:
    return prepare(odd / "base_int16_LAS.nii.gz").volume


def prepare(path: Path) -> ModelInput:
    return preprocess(read_nifti(path), Contract())


def flags_of(prepared: ModelInput) -> list[str]:
    return [flag.code for flag in prepared.flags]


def test_every_file_has_its_expectation(odd: Path) -> None:
    assert {path.name for path in odd.iterdir()} == {*SAME_VOXELS, *OTHER_VOXELS, *BROKEN}


@pytest.mark.parametrize("name", SAME_VOXELS)
def test_the_same_voxels_give_the_same_input(odd: Path, base: NDArray[np.float32], name: str) -> None:
    prepared = prepare(odd / name)
    np.testing.assert_allclose(prepared.volume, base, rtol=0, atol=1e-6)
    assert flags_of(prepared) == SAME_VOXELS[name]


def test_nan_outside_the_field_of_view_is_air(odd: Path, base: NDArray[np.float32]) -> None:
    prepared = prepare(odd / "float32_nan_outside_fov.nii.gz")
    assert flags_of(prepared) == OTHER_VOXELS["float32_nan_outside_fov.nii.gz"]
    np.testing.assert_allclose(prepared.volume[32:96, 32:96], base[32:96, 32:96], rtol=0, atol=1e-6)
    assert np.isfinite(prepared.volume).all()


def test_slices_that_are_not_square_give_a_picture_of_their_own(odd: Path, base: NDArray[np.float32]) -> None:
    prepared = prepare(odd / "nonsquare_200x236.nii.gz")
    assert flags_of(prepared) == OTHER_VOXELS["nonsquare_200x236.nii.gz"]
    assert prepared.volume.shape == (128, 128, 64)
    assert prepared.volume.min() >= 0
    assert prepared.volume.max() <= 1
    assert np.abs(prepared.volume - base).max() > 0.1


@pytest.mark.parametrize(("name", "code"), BROKEN.items())
def test_broken_scans_give_their_code(odd: Path, name: str, code: str) -> None:
    with pytest.raises(ScanError, match=name) as caught:
        prepare(odd / name)
    assert caught.value.code == code
    refused = ("two_dimensional", "single_slice", "multiple_volumes")
    assert isinstance(caught.value, RefusedScanError) is (code in refused)


def test_the_folder_holds_one_scan_fewer_than_files(odd: Path) -> None:
    found = find_scans([odd])
    assert len(found) == len(SAME_VOXELS) + len(OTHER_VOXELS) + len(BROKEN) - 1
    assert odd / "pair.img" not in found
