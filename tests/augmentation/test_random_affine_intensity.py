from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from products import each_value
from scipy import ndimage

from ct3d_edge.augmentation.random_affine_intensity import RandomAffineIntensity, left_right_axis
from ct3d_edge.augmentation.resample import resample
from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.volume import Volume

STILL = RandomAffineIntensity(flip_axis=None, rotation=0, tilt=0, scale=0, shift=0, hu_shift=0, stretch=0, noise=0)
SIZES = [(24, 20, 12), (9, 9, 3), (1, 5, 2), (6, 1, 4), (5, 4, 1), (1, 1, 1)]


def random_volume(size: tuple[int, int, int] = (24, 20, 12)) -> NDArray[np.float32]:
    return np.random.default_rng(0).random(size, np.float32)


def draws(augment: RandomAffineIntensity, volume: NDArray[np.float32], count: int) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return [augment(volume, rng) for _ in range(count)]


def centre_of_mass(volume: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array(ndimage.center_of_mass(volume))


# Resampling


@pytest.mark.parametrize(("far", "size"), each_value([0.3, 1.0, 30.0], SIZES))
def test_resampling_equals_scipys_with_zeros_around(size: tuple[int, int, int], far: float) -> None:
    rng, volume = np.random.default_rng(5), random_volume(size)
    for _ in range(5):
        matrix, offset = np.eye(3)[:, :2] + rng.normal(0, 0.2, (3, 2)), rng.normal(0, far, 3)
        upright = np.column_stack([matrix, [0, 0, 1]])
        expected = ndimage.affine_transform(volume, upright, offset, order=1, mode="grid-constant")
        np.testing.assert_allclose(resample(volume, matrix, offset), expected, rtol=0, atol=1e-6)


# Changes of place


def test_no_change_is_no_change() -> None:
    volume = random_volume()
    assert np.abs(STILL(volume, np.random.default_rng(0)) - volume).max() < 1e-6


def test_only_the_flip_axis_is_mirrored_in_half_of_the_draws() -> None:
    volume = random_volume((6, 5, 4))
    for axis in range(3):
        results = draws(replace(STILL, flip_axis=axis), volume, 100)
        mirrored = [np.allclose(result, np.flip(volume, axis), atol=1e-6) for result in results]
        assert all(
            same or np.allclose(result, volume, atol=1e-6) for same, result in zip(mirrored, results, strict=True)
        )
        assert 30 < sum(mirrored) < 70


def test_a_turn_stays_within_its_angle_and_on_its_circle() -> None:
    """On a grid that is not square: a field of view is."""
    volume = np.zeros((80, 40, 1), np.float32)
    volume[59:61, 19:21] = 1  # in the middle of the second axis, at half the radius of the first
    angles = []
    for result in draws(replace(STILL, rotation=20), volume, 40):
        x, y, _ = (centre_of_mass(result) - [39.5, 19.5, 0]) / [80, 40, 1]
        assert np.hypot(x, y) == pytest.approx(0.25, abs=0.005)
        angles.append(np.rad2deg(np.arctan2(y, x)))
    assert max(np.abs(angles)) < 20.5
    assert min(angles) < -12 < 12 < max(angles)


def test_scaling_keeps_the_centre_and_its_bounds() -> None:
    volume = np.zeros((60, 60, 2), np.float32)
    volume[20:40, 20:40] = 1
    sides = []
    for result in draws(replace(STILL, scale=0.2), volume, 40):
        assert np.allclose(centre_of_mass(result)[:2], 29.5, atol=0.01)
        sides.append(np.sqrt(result[:, :, 0].sum()) / 20)
    assert 0.79 < min(sides) < 0.87
    assert 1.13 < max(sides) < 1.21


def test_shifts_are_parts_of_each_axis() -> None:
    volume = np.zeros((40, 60, 20), np.float32)
    volume[18:22, 28:32, 8:12] = 1
    moved = [centre_of_mass(result) - [19.5, 29.5, 9.5] for result in draws(replace(STILL, shift=0.1), volume, 40)]
    largest = np.abs(moved).max(axis=0)
    assert np.all(largest <= np.array([4, 6, 2]) + 1e-3)
    assert np.all(largest > np.array([3, 4.5, 1.5]))


def test_a_tilt_lets_planes_lean_and_respects_anisotropy() -> None:
    """As long as wide in mm: by 45 degrees at most, the plane's edge rises by half the depth at most."""
    volume = np.zeros((32, 32, 16), np.float32)
    volume[:, :, 7:9] = 1
    largest = 0.0
    for result in draws(replace(STILL, tilt=20), volume, 40):
        heights = (result * np.arange(16)).sum(axis=2) / np.maximum(result.sum(axis=2), 1e-6)
        slopes = [np.diff(heights, axis=axis)[8:24, 8:24] for axis in (0, 1)]
        for slope in slopes:
            assert np.ptp(slope) < 1e-3, "planes stay flat"
            largest = max(largest, abs(float(slope.mean())))
    assert 0.6 * np.tan(np.deg2rad(20)) / 2 < largest <= np.tan(np.deg2rad(20)) / 2 + 1e-3


def test_what_comes_from_outside_is_air() -> None:
    bright = np.full((16, 16, 8), 0.5, np.float32)
    results = draws(replace(STILL, rotation=45), bright, 10)
    assert min(result[0, 0, 4] for result in results) == 0
    assert all(result[8, 8, 4] == pytest.approx(0.5) for result in results)


# Changes of value


def test_the_hu_shift_is_in_hu() -> None:
    grey = np.full((4, 4, 4), 0.5, np.float32)
    for window, size in (((-1000.0, 400.0), 1400), ((-160.0, 240.0), 400)):
        means = [result.mean() - 0.5 for result in draws(replace(STILL, hu_window=window, hu_shift=30), grey, 50)]
        assert 25 / size < np.abs(means).max() <= 30.01 / size
        assert min(means) < 0 < max(means)


def test_the_stretch_holds_the_windows_lower_end() -> None:
    grey = np.zeros((4, 4, 4), np.float32)
    grey[2:] = 0.5
    results = draws(replace(STILL, stretch=0.1), grey, 50)
    assert all(result[0, 0, 0] == 0 for result in results)
    ratios = [result[3, 0, 0] / 0.5 for result in results]
    assert 0.899 < min(ratios) < 0.93
    assert 1.07 < max(ratios) < 1.101


def test_noise_is_gaussian_and_its_largest_deviation_in_hu() -> None:
    grey = np.full((16, 16, 16), 0.5, np.float32)
    noise = [(result - 0.5) * 1400 for result in draws(replace(STILL, noise=40), grey, 30)]
    deviations = [part.std() for part in noise]
    assert max(deviations) < 42
    assert min(deviations) < 10
    assert max(deviations) > 30
    normal = noise[int(np.argmax(deviations))] / max(deviations)
    assert np.mean(np.abs(normal) < 1) == pytest.approx(0.683, abs=0.03)
    assert abs(np.corrcoef(normal[:-1].ravel(), normal[1:].ravel())[0, 1]) < 0.06, "neighbours do not share it"


def test_values_stay_in_the_window() -> None:
    volume = random_volume()
    for result in draws(RandomAffineIntensity(hu_shift=500, noise=500), volume, 5):
        assert result.min() >= 0
        assert result.max() <= 1


@pytest.mark.parametrize(
    "wrong", [{"rotation": -1}, {"scale": 1}, {"stretch": 1.5}, {"flip_axis": 3}, {"noise": float("nan")}]
)
def test_senseless_amounts_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="Amounts of augmentation"):
        RandomAffineIntensity(**wrong)


# Left and right


@pytest.mark.parametrize("orientation", ["LAS", "RPI", "PIR", "SRA", "ASL", "stored"])
def test_the_left_right_axis_is_where_the_patients_left_ends_up(orientation: str) -> None:
    hu = np.broadcast_to(np.linspace(-900, 300, 8)[:, None, None], (8, 8, 8)).astype(np.int16)
    assert nib.aff2axcodes(np.eye(4)) == ("R", "A", "S")
    for quarter_turns in range(4):
        contract = Contract(shape=(8, 8, 8), orientation=orientation, quarter_turns=quarter_turns)
        prepared = preprocess(Volume(hu, affine=np.eye(4)), contract).volume
        varies = [float(np.ptp(prepared, axis=axis).max()) > 0.5 for axis in range(3)]
        assert varies.index(True) == left_right_axis(contract)
        assert sum(varies) == 1
