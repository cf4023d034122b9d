"""Vessel trees reach where they should, thin out by Murray's law, and keep their volume in the voxels."""

import numpy as np
import pytest

from ct3d_edge.datasets.phantoms.fields import Grid, as_field
from ct3d_edge.datasets.phantoms.trees import Tree, grow_tree, join_trees, rasterise, sample_points

GRID = Grid((64, 64, 16), (2.0, 2.0, 8.0))
ROOT = (-40.0, 0.0, 64.0)


@pytest.fixture(scope="module")
def region() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return as_field(np.broadcast_to((GRID.x > 0) & (np.abs(GRID.y) < 40), GRID.coarse))


@pytest.fixture(scope="module")
def tree(region: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Tree:
    return grow_tree(np.random.default_rng(0), GRID, region, ROOT, tips=300, tip_radius=0.5)


def test_places_fall_where_there_is_weight(
    region: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> None:
    x, y, z = sample_points(np.random.default_rng(1), GRID, region, 2000).T
    assert 0 <= x.min() < x.max() <= 64
    assert -40 <= y.min() < y.max() <= 40
    assert 0 <= z.min() < z.max() <= 128
    np.testing.assert_allclose([x.mean(), y.mean(), z.mean()], [32, 0, 64], atol=4)


def test_every_branch_hangs_on_the_root(tree: Tree) -> None:
    known = {ROOT, *map(tuple, tree.end.tolist())}
    assert all(tuple(start) in known for start in tree.start.tolist())
    assert len(tree.radius) == 300


def test_radii_follow_murray_s_law(tree: Tree) -> None:
    leaving: dict[tuple[float, ...], float] = {}
    for start, radius in zip(tree.start.tolist(), tree.radius.tolist(), strict=True):
        leaving[tuple(start)] = leaving.get(tuple(start), 0.0) + radius**3
    for end, radius in zip(tree.end.tolist(), tree.radius.tolist(), strict=True):
        assert radius**3 == pytest.approx(leaving.get(tuple(end), 0.5**3), rel=1e-3)


@pytest.mark.parametrize("radius", [0.4, 1.5, 6.0])
@pytest.mark.parametrize("end", [(30.0, 0.0, 64.0), (20.0, 25.0, 100.0)])
def test_a_tube_keeps_its_volume_in_voxels_of_any_size(radius: float, end: tuple[float, float, float]) -> None:
    tube = Tree(as_field([[-30.0, -10.0, 60.0]]), as_field([end]), as_field([radius]))
    length = float(np.linalg.norm(tube.end - tube.start))
    for side in (32, 160):
        grid = Grid((side, side, 16), (128 / side, 128 / side, 8.0))
        kept = rasterise(tube, grid, slice_mm=8.0)
        volume = kept.share.sum() * np.prod(grid.spacing)
        assert volume == pytest.approx(np.pi * radius**2 * length, rel=0.05)


def test_occupancy_is_a_fraction_and_absent_slices_cost_nothing() -> None:
    tube = Tree(as_field([[-20.0, 0.0, 60.0]]), as_field([[20.0, 0.0, 60.0]]), as_field([6.0]))
    kept = rasterise(tube, GRID, slice_mm=8.0)
    full = kept.occupancy(7)
    assert full is not None
    assert full.max() == pytest.approx(1.0, abs=0.05)
    assert full[:, :18].max() == full[:20].max() == 0
    assert kept.occupancy(0) is None


def test_joined_trees_hold_all_segments(tree: Tree) -> None:
    both = join_trees([tree, tree])
    assert len(both.radius) == len(both.start) == len(both.end) == 600
