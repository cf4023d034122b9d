"""Grids, shapes and smooth fields: the arithmetic under the anatomy."""

import numpy as np
import pytest

from ct3d_edge.datasets.phantoms.fields import (
    Grid,
    as_field,
    capsule,
    ellipsoid,
    oval,
    profile,
    rounded_max,
    rounded_min,
    value_noise,
)

GRID = Grid((256, 192, 5), (1.5, 2.0, 8.0))


def test_enlarging_keeps_a_plane_of_mm_where_it_is() -> None:
    coarse = as_field(np.broadcast_to(GRID.x[0] + 2 * GRID.y[0], GRID.coarse[1:]))
    fine = GRID.enlarge(coarse)
    x = (np.arange(256) - 127.5) * 1.5
    y = (np.arange(192) - 95.5) * 2.0
    assert fine.shape == (192, 256)
    # Beyond the outermost coarse sample a field is constant.
    inner = np.s_[2:-2, 2:-2]
    np.testing.assert_allclose(fine[inner], (x + 2 * y[:, None])[inner], atol=1e-3)


def test_enlarging_a_full_size_plane_returns_a_copy() -> None:
    grid = Grid((32, 32, 5), (1.0, 1.0, 1.0))
    plane = np.zeros((32, 32), dtype=np.float32)
    fine = grid.enlarge(plane)
    fine += 1
    assert not plane.any()


@pytest.mark.parametrize("size", [5.0, 40.0])
def test_a_cloud_is_about_standard_normal_and_float32(size: float) -> None:
    grid = Grid((128, 128, 60), (3.0, 3.0, 8.0))
    field = value_noise(np.random.default_rng(0), grid, size)
    assert field.dtype == np.float32
    assert field.shape == (60, 128, 128)
    assert abs(float(field.mean())) < 0.15
    assert 0.7 < float(field.std()) < 1.6


def test_a_cloud_of_large_lumps_is_smooth() -> None:
    grid = Grid((128, 128, 20), (3.0, 3.0, 8.0))
    small, large = (
        np.abs(np.diff(value_noise(np.random.default_rng(0), grid, size), axis=2)).mean() for size in (6, 60)
    )
    assert large < small / 4


def test_shapes_are_zero_on_their_surface_and_positive_inside() -> None:
    at = as_field([-12.0, 0.0, 3.0, 12.0, 20.0])
    nothing = np.zeros_like(at)
    np.testing.assert_allclose(oval(at, nothing, 12.0, 6.0), [0, 6, 9, 0, -8], atol=1e-4)
    np.testing.assert_allclose(oval(at, nothing, 12.0, 6.0, power=3.0), [0, 6, 9, 0, -8], atol=1e-4)
    np.testing.assert_allclose(ellipsoid((at, nothing, nothing), (12.0, 6.0, 4.0)), [0, 4, 9, 0, -8], atol=1e-4)


def test_a_capsule_measures_from_its_axis_and_its_ends() -> None:
    x, y = as_field([5.0, 5.0, -3.0, 13.0]), as_field([0.0, 3.0, 0.0, 4.0])
    tube = capsule((x, y, np.zeros_like(x)), (0.0, 0.0, 0.0), (10.0, 0.0, 0.0), 2.0)
    np.testing.assert_allclose(tube, [2, -1, -1, -3], atol=1e-5)


def test_rounding_adds_only_where_two_shapes_are_equally_near() -> None:
    first, second = as_field([5.0, 0.0, -5.0]), as_field([-5.0, 0.0, 5.0])
    np.testing.assert_allclose(rounded_max(first, second, 8.0), [5, 2, 5])
    np.testing.assert_allclose(rounded_min(first, second, 8.0), [-5, -2, -5])


def test_a_profile_is_constant_beyond_its_ends() -> None:
    at = as_field([[-1.0], [0.25], [9.0]])
    np.testing.assert_allclose(profile(at, ((0.0, 2.0), (1.0, 4.0))), [[2.0], [2.5], [4.0]])
