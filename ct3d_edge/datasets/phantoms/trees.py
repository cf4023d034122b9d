"""Branching trees inside the lungs (vessels, small bronchi), and how much of each voxel they fill.

Growth follows the greedy balanced spanning tree of Cuntz et al. 2010 (doi 10.1371/journal.pcbi.1000877): points are
joined one by one to the tree where the new branch plus a share of the way back to the root is shortest. Radii follow
Murray's law, r^3 = sum of the children's r^3 (Murray 1926, doi 10.1073/pnas.12.3.207).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.datasets.phantoms.fields import Field, Grid, Point, as_field

BALANCE = 0.45  # share of the way back to the root that counts when a branch is chosen
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
POINTS_PER_VOXEL = 7


@dataclass(frozen=True)
class Tree:
    """Segments of a tree: ends in mm, shape (segments, 3) as x, y, z, and radii in mm, shape (segments,)."""

    start: Field
    end: Field
    radius: Field


def grow_tree(
    rng: np.random.Generator, grid: Grid, region: Field, root: Point, *, tips: int, tip_radius: float
) -> Tree:
    """Grow a tree from `root` through `tips` random points in `region`.

    Parameters
    ----------
    region
        Coarse field (z, y, x): the weight with which a point is chosen, 0 where the tree must not end.
    tip_radius
        Of the thinnest branches, in mm.
    """
    points = np.concatenate([np.asarray([root], dtype=np.float32), sample_points(rng, grid, region, tips)])
    order, parent = _connect(points)
    radius = _murray_radii(order, parent, tip_radius)
    points = _straighten(points, order, parent, radius)
    children = order[1:]
    return Tree(points[parent[children]], points[children], radius[children])


def join_trees(trees: list[Tree]) -> Tree:
    """Put the segments of several trees together."""
    return Tree(
        np.concatenate([tree.start for tree in trees]),
        np.concatenate([tree.end for tree in trees]),
        np.concatenate([tree.radius for tree in trees]),
    )


def sample_points(rng: np.random.Generator, grid: Grid, weight: Field, count: int) -> Field:
    """Draw `count` points in mm, (count, 3) as x, y, z, with density `weight` over the coarse grid."""
    total = np.cumsum(weight, dtype=np.float64)
    picks = np.searchsorted(total, rng.random(count) * total[-1], side="right")
    cells = np.stack(np.unravel_index(np.minimum(picks, weight.size - 1), weight.shape), axis=1)
    fraction = (cells[:, ::-1] + rng.random((count, 3))) / grid.coarse[::-1]
    return as_field((fraction - (0.5, 0.5, 0.0)) * grid.extent)


def _connect(points: Field) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order in which points join the tree, and the parent of each, both (points,)."""
    x, y, z = np.ascontiguousarray(points.T)
    parent, order = np.zeros((2, len(x)), dtype=np.intp)
    length = np.sqrt(np.square(x - x[0]) + np.square(y - y[0]) + np.square(z - z[0]))
    way, cost = np.zeros_like(length), length.copy()
    # What has joined costs less than any way could: it is never rewired.
    joined = np.float32(-1e9)
    cost[0] = joined
    for turn in range(1, len(x)):
        new = int(np.argmin(np.where(cost == joined, np.inf, cost)))
        order[turn] = new
        way[new] = way[parent[new]] + length[new]
        cost[new] = joined
        gap = np.sqrt(np.square(x - x[new]) + np.square(y - y[new]) + np.square(z - z[new]))
        through = gap + BALANCE * way[new]
        better = np.flatnonzero(through < cost)
        cost[better], length[better], parent[better] = through[better], gap[better], new
    return order, parent


def _murray_radii(order: NDArray[np.intp], parent: NDArray[np.intp], tip_radius: float) -> Field:
    tips = np.zeros(len(order), dtype=np.float64)
    for node in order[:0:-1]:
        tips[node] = max(tips[node], 1.0)
        tips[parent[node]] += tips[node]
    tips[0] = max(tips[0], 1.0)
    return (tip_radius * np.cbrt(tips)).astype(np.float32)


def _straighten(points: Field, order: NDArray[np.intp], parent: NDArray[np.intp], radius: Field) -> Field:
    """Move every branching point toward the line from its parent to its thickest child."""
    main_child = np.arange(len(points))
    for node in order[:0:-1]:
        up = parent[node]
        if main_child[up] == up or radius[node] > radius[main_child[up]]:
            main_child[up] = node
    for _ in range(2):
        middle = (points[parent] + points[main_child]) / 2
        middle[0] = points[0]
        tip = main_child == np.arange(len(points))
        points = np.where(tip[:, None], points, 0.4 * points + 0.6 * middle).astype(np.float32)
    return points


@dataclass(frozen=True)
class PartialVolume:
    """Volume of a tree in the voxels of each slice, held as points that each carry a little of it."""

    position: Field  # (points, 2): x, y in voxels
    share: Field  # (points,): fraction of a voxel that the point fills
    first: NDArray[np.intp]  # (slices + 1,): where each slice's points begin
    shape: tuple[int, int]  # (y, x)

    def occupancy(self, index: int) -> Field | None:
        """How much of each voxel of slice `index` the tree fills, (y, x) in 0..1; None when it is absent."""
        here = slice(self.first[index], self.first[index + 1])
        if here.start == here.stop:
            return None
        ny, nx = self.shape
        low = np.floor(self.position[here]).astype(np.intp)
        at = self.position[here] - low
        np.clip(low, 0, (nx - 2, ny - 2), out=low)
        corner, share = low[:, 1] * nx + low[:, 0], self.share[here]
        fx, fy = at[:, 0], at[:, 1]
        spots = np.concatenate([corner, corner + 1, corner + nx, corner + nx + 1])
        parts = np.concatenate([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy]) * np.tile(share, 4)
        filled = np.bincount(spots, parts, minlength=nx * ny).reshape(ny, nx)
        return np.minimum(filled, 1.0, dtype=np.float32, casting="same_kind")


def rasterise(tree: Tree, grid: Grid, slice_mm: float) -> PartialVolume:
    """Spread the volume of `tree` over the voxels of slices `slice_mm` thick.

    Steps along each branch become points on a sunflower disc across it: volumes, and so partial volumes, come
    out right at any voxel size, from vessels thinner than a voxel to the hilum.
    """
    centre, across, radius, step = _sample_branches(tree, grid, slice_mm)
    voxel = grid.spacing[0] * grid.spacing[1] * slice_mm
    volume = np.pi * np.square(radius) * step
    copies = np.ceil(volume / voxel * POINTS_PER_VOXEL).astype(np.intp).clip(1, 600)
    owner = np.repeat(np.arange(len(copies)), copies)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(copies) - copies, copies)
    reach = radius[owner] * np.sqrt((rank + 0.5) / copies[owner])
    turn = rank * GOLDEN_ANGLE + owner
    offset = across[owner, 0] * np.cos(turn)[:, None] + across[owner, 1] * np.sin(turn)[:, None]
    points = centre[owner] + (reach[:, None] * offset).astype(np.float32)
    return _group_by_slice(points, (volume / voxel / copies)[owner], grid, slice_mm)


def _sample_branches(tree: Tree, grid: Grid, slice_mm: float) -> tuple[Field, Field, Field, Field]:
    """Short steps near a slice: centres (n, 3), unit vectors across (n, 2, 3), radii (n,), lengths (n,)."""
    run = tree.end - tree.start
    length = np.sqrt(np.square(run).sum(axis=1)) + 1e-3
    pieces = np.ceil(length / max(0.7, 0.8 * grid.spacing[0])).astype(np.intp)
    owner = np.repeat(np.arange(len(pieces)), pieces)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    centre = tree.start[owner] + run[owner] * ((rank + 0.5) / pieces[owner])[:, None].astype(np.float32)
    gap = np.abs((centre[:, 2] / grid.spacing[2]) % 1 - 0.5) * grid.spacing[2]
    near = gap < slice_mm / 2 + tree.radius[owner]
    owner = owner[near]
    return centre[near], _across(run / length[:, None])[owner], tree.radius[owner], (length / pieces)[owner]


def _across(direction: Field) -> Field:
    other = np.where(np.abs(direction[:, 2:]) < 0.8, (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    first = np.cross(direction, other)
    first /= np.sqrt(np.square(first).sum(axis=1, keepdims=True))
    return np.stack([first, np.cross(direction, first)], axis=1).astype(np.float32)


def _group_by_slice(points: Field, share: Field, grid: Grid, slice_mm: float) -> PartialVolume:
    nx, ny, nz = grid.shape
    position = points / np.asarray(grid.spacing, dtype=np.float32)
    index = np.floor(position[:, 2]).astype(np.intp)
    inside = np.abs(position[:, 2] - index - 0.5) * grid.spacing[2] <= slice_mm / 2
    inside &= (index >= 0) & (index < nz)
    index, position, share = index[inside], position[inside], share[inside]
    order = np.argsort(index, kind="stable")
    in_plane = as_field(position[order, :2] + ((nx - 1) / 2, (ny - 1) / 2))
    first = np.searchsorted(index[order], np.arange(nz + 1))
    return PartialVolume(in_plane, as_field(share[order]), first, (ny, nx))
