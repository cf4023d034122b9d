"""A phantom has the geometry of a real scan, looks the right way round, and is the same for the same seed."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from ct3d_edge.datasets.phantoms.phantom import Phantom, build_scene, make_phantom, save_phantom
from ct3d_edge.errors import UsageError

SHAPE = (64, 64, 24)
FIXTURES = Path(__file__).parents[2] / "fixtures" / "phantoms"


@pytest.fixture(scope="module")
def sick() -> Phantom:
    return make_phantom(5, abnormal=True, shape=SHAPE)


def test_same_seed_same_voxels(sick: Phantom) -> None:
    again = make_phantom(5, abnormal=True, shape=SHAPE)
    assert np.array_equal(again.hu, sick.hu)
    assert np.array_equal(again.lesions, sick.lesions)


def test_a_seed_gives_the_phantom_that_it_gave_before() -> None:
    """Parity checks and benchmarks name phantoms by seed. Other processors may round exp and sin differently."""
    phantom = make_phantom(5, abnormal=True, shape=(32, 32, 12))
    image, mask = (nib.load(FIXTURES / name) for name in ("seed_5.nii.gz", "seed_5_mask.nii.gz"))
    difference = np.abs(phantom.hu.astype(np.int32) - np.asanyarray(image.dataobj))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.001
    assert (phantom.lesions != np.asanyarray(mask.dataobj)).mean() <= 0.001
    assert np.allclose(image.header.get_zooms(), phantom.spacing)


def test_another_seed_is_another_patient(sick: Phantom) -> None:
    other = make_phantom(6, abnormal=True, shape=SHAPE)
    assert other.spacing != sick.spacing
    assert (other.hu != sick.hu).mean() > 0.3


def test_disease_changes_the_lungs_and_nothing_else(sick: Phantom) -> None:
    healthy = make_phantom(5, abnormal=False, shape=SHAPE)
    scene = build_scene(5, abnormal=False, shape=SHAPE)
    away = (scene.chest.lung < -scene.scanner.edge_mm).T
    assert np.array_equal(healthy.hu[away], sick.hu[away])
    assert (healthy.hu != sick.hu).any()


@pytest.mark.parametrize("shape", [(32, 32, 16), (48, 40, 12), (160, 144, 9)])
def test_shape_type_and_range(shape: tuple[int, int, int]) -> None:
    phantom = make_phantom(1, abnormal=True, shape=shape)
    assert phantom.hu.shape == phantom.lesions.shape == shape
    assert phantom.hu.dtype == np.int16
    assert phantom.lesions.dtype == np.bool_
    assert phantom.hu.min() >= -1024
    assert phantom.hu.max() <= 3071
    assert phantom.hu.max() > 300, "no bone"
    assert np.percentile(phantom.hu, 20) < -900, "no air"


def test_default_geometry_is_mosmeddata_s() -> None:
    phantom = make_phantom(2, abnormal=False)
    assert phantom.hu.shape[:2] == (512, 512)
    assert 30 <= phantom.hu.shape[2] <= 60
    assert phantom.spacing[0] == phantom.spacing[1]
    assert 0.7 <= phantom.spacing[0] <= 0.8
    assert phantom.spacing[2] == 8.0


def test_shape_does_not_change_the_field_of_view(sick: Phantom) -> None:
    small = make_phantom(5, abnormal=True, shape=(32, 32, 16))
    extent = np.multiply(sick.hu.shape, sick.spacing)
    np.testing.assert_allclose(np.multiply(small.hu.shape, small.spacing), extent, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_patient_lies_on_the_back_liver_to_the_right_head_up(seed: int) -> None:
    phantom = make_phantom(seed, abnormal=False, shape=SHAPE)
    _, y, _ = np.nonzero(phantom.hu > 250)
    assert y.mean() < SHAPE[1] / 2, "bone is mostly spine, behind"
    chest = build_scene(seed, abnormal=False, shape=SHAPE).chest
    base = int(chest.patient.level(chest.patient.dome) / phantom.spacing[2]) - 1
    organs = phantom.hu[:, :, base] > -20
    half = SHAPE[0] // 2
    assert organs[:half].sum() > organs[half:].sum(), "the liver is at the patient's right, low x"
    lowest, highest = (phantom.hu[:, :, z] > -300 for z in (1, -1))
    assert highest.sum() < lowest.sum(), "neck and shoulders are smaller than the abdomen"


@pytest.mark.parametrize("seed", range(4))
def test_the_heart_is_shifted_to_the_left(seed: int) -> None:
    chest = build_scene(seed, abnormal=False, shape=SHAPE).chest
    _, _, x = np.nonzero(chest.mediastinum.heart > 0)
    assert x.mean() > SHAPE[0] / 2


@pytest.mark.parametrize("seed", range(4))
def test_two_lungs_that_do_not_touch_above_the_aortic_arch(seed: int) -> None:
    chest = build_scene(seed, abnormal=False, shape=SHAPE).chest
    index = int(chest.patient.level(0.85) / chest.grid.spacing[2])
    parts, count = ndimage.label(chest.lung[index] > 0)
    assert count == 2
    right, left = (np.nonzero(parts == part)[1].mean() for part in (1, 2))
    assert min(right, left) < SHAPE[0] / 2 < max(right, left)


def test_saved_scan_is_las_in_mm(sick: Phantom, tmp_path: Path) -> None:
    save_phantom(sick, tmp_path / "a" / "scan.nii.gz", tmp_path / "b" / "lesions.nii.gz")
    scan, mask = nib.load(tmp_path / "a" / "scan.nii.gz"), nib.load(tmp_path / "b" / "lesions.nii.gz")
    assert nib.aff2axcodes(scan.affine) == ("L", "A", "S")
    np.testing.assert_array_equal(np.diag(scan.affine)[:3], np.multiply(sick.spacing, (-1, 1, 1)))
    np.testing.assert_array_equal(mask.affine, scan.affine)
    np.testing.assert_allclose(scan.header.get_qform(), scan.affine, atol=1e-3)
    assert scan.header.get_xyzt_units()[0] == "mm"
    assert scan.get_data_dtype() == np.int16
    assert mask.get_data_dtype() == np.uint8


def test_saved_voxels_are_stored_unscaled(sick: Phantom, tmp_path: Path) -> None:
    save_phantom(sick, tmp_path / "scan.nii.gz", tmp_path / "lesions.nii.gz")
    scan = nib.load(tmp_path / "scan.nii.gz")
    assert scan.dataobj.slope == 1
    assert scan.dataobj.inter == 0
    np.testing.assert_array_equal(np.asanyarray(scan.dataobj), sick.hu)
    np.testing.assert_array_equal(nib.load(tmp_path / "lesions.nii.gz").get_fdata() > 0, sick.lesions)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lesions.nii.gz", "scan.nii.gz"]


@pytest.mark.parametrize(("seed", "shape"), [(-1, None), (0, (8, 64, 24)), (0, (64, 64, 2))])
def test_impossible_requests_are_refused(seed: int, shape: tuple[int, int, int] | None) -> None:
    with pytest.raises(UsageError, match="A phantom needs"):
        make_phantom(seed, abnormal=False, shape=shape)
