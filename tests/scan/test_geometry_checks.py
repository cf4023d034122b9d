"""Fill values around the image: found, taken as air, and nothing else changed."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import rotate

from ct3d_edge.contract import Contract
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.scan.geometry_checks import find_fill_value, mask_outside_fov
from ct3d_edge.scan.volume import Volume

AFFINE = np.diag([-2.0, 2.0, 8.0, 1.0])
CONTRACT = Contract(shape=(40, 40, 10))


def body(fill: float | None) -> NDArray[np.int16]:
    """(40, 40, 10) int16 HU: air with noise, a body, and a fill value outside a circular field of view."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in (40, 40, 10)), indexing="ij")
    hu = np.where(x**2 + y**2 < 0.5, 0, -1000) + np.random.default_rng(0).integers(-20, 20, x.shape)
    return (hu if fill is None else np.where(x**2 + y**2 > 1, fill, hu)).astype(np.int16)


@pytest.mark.parametrize("fill", [0, -100, 250])
def test_a_fill_like_tissue_is_taken_as_air(fill: int) -> None:
    prepared = preprocess(Volume(body(fill), affine=AFFINE), CONTRACT)
    (flag,) = prepared.flags
    assert (flag.code, flag.severity) == ("fov_fill", "warn")
    assert flag.value == pytest.approx(1 - np.pi / 4, abs=0.06)
    right = preprocess(Volume(body(-1000), affine=AFFINE), CONTRACT)
    np.testing.assert_array_equal(prepared.volume, right.volume)
    assert prepared.hu_range == right.hu_range


def test_a_slice_of_fill_alone_is_air_if_other_slices_are_surrounded_by_it() -> None:
    filled, right = body(0), body(-1000)
    filled[:, :, 0], right[:, :, 0] = 0, -1000
    prepared = preprocess(Volume(filled, affine=AFFINE), CONTRACT)
    np.testing.assert_array_equal(prepared.volume, preprocess(Volume(right, affine=AFFINE), CONTRACT).volume)


@pytest.mark.parametrize("ends", [[0], [-1], [0, -2, -1]])
def test_whole_slices_of_fill_at_the_ends_are_air(ends: list[int]) -> None:
    filled, right = body(None), body(None)
    filled[:, :, ends], right[:, :, ends] = 0, -1000
    prepared = preprocess(Volume(filled, affine=AFFINE), CONTRACT)
    assert [flag.code for flag in prepared.flags] == ["fov_fill"]
    np.testing.assert_array_equal(prepared.volume, preprocess(Volume(right, affine=AFFINE), CONTRACT).volume)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("degrees", [1, 2, -2, 5])
def test_the_fill_of_a_small_rotation_is_taken_as_air(degrees: int, axis: int) -> None:
    """Of 40 pixels a rotation by 2 degrees leaves wedges one pixel wide."""
    hu = np.repeat(body(None), 4, axis=2)
    plane = tuple({0, 1, 2} - {axis})

    def rotated(outside: float) -> NDArray[np.int16]:
        turned: NDArray[np.int16] = rotate(hu, degrees, plane, reshape=False, order=1, cval=outside)
        return turned

    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    prepared = preprocess(Volume(rotated(0), affine=affine), Contract(shape=(40, 40, 40)))
    assert [flag.code for flag in prepared.flags] == ["fov_fill"]
    right = preprocess(Volume(rotated(-1000), affine=affine), Contract(shape=(40, 40, 40))).volume
    assert np.mean(np.abs(prepared.volume - right) > 0.1) < 0.002


def test_a_volume_of_one_value_is_not_all_outside() -> None:
    prepared = preprocess(Volume(np.full((40, 40, 10), 30, np.int16), affine=AFFINE), CONTRACT)
    assert prepared.flags == ()
    assert float(prepared.volume.min()) > 0.5


@pytest.mark.parametrize("fill", [None, -1000, -1024, -3000, 1500])
def test_air_and_inverted_images_are_left_alone(fill: int | None) -> None:
    assert preprocess(Volume(body(fill), affine=AFFINE), CONTRACT).flags == ()


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, -1024.0), (0.5, -1000.0), (-1.0, 0.0)])
def test_the_fill_is_judged_in_hu(slope: float, intercept: float) -> None:
    stored = ((body(0) - intercept) / slope).astype(np.int16)
    prepared = preprocess(Volume(stored, slope, intercept, AFFINE), CONTRACT)
    assert [flag.code for flag in prepared.flags] == ["fov_fill"]
    assert float(prepared.volume[0, 0].max()) == 0


def test_tissue_of_the_same_value_inside_the_body_stays() -> None:
    rows = np.array([[0, 0, -900, 0, 0, -900, 0], [5, 0, 0, 0, 0, 0, 5]])
    expected = [[1, 1, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 0]]
    np.testing.assert_array_equal(mask_outside_fov(rows, 0), np.array(expected, bool))


def test_one_corner_of_tissue_is_no_fill() -> None:
    plane = np.random.default_rng(0).integers(-1020, -980, (40, 40))
    plane[:10, :10] = 0
    assert find_fill_value(plane, 1.0, 0.0) is None
    plane[-10:, :10] = 0
    assert find_fill_value(plane, 1.0, 0.0) == 0


def test_slices_smaller_than_their_corners_have_no_fill() -> None:
    assert find_fill_value(np.zeros((7, 40)), 1.0, 0.0) is None
