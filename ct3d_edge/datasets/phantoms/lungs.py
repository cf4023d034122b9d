"""Lung tissue with and without disease: parenchyma, lesions, vessel and airway trees.

Attenuation of lung tissue without disease: inflation, gravity, fissures, emphysema, grain.

The classes are balanced here. Every phantom draws a `Burden`. An abnormal lung carries it as lesions; a
normal lung carries about as much extra density as poor inspiration and dependent atelectasis. So a histogram
of the scan says little about the class, while place and texture say everything.

Branching trees inside the lungs (pulmonary vessels, small bronchi) and their partial volume in each voxel.

Growth follows the greedy balanced spanning tree of Cuntz et al. 2010 (doi 10.1371/journal.pcbi.1000877):
points are joined one by one to the tree where the new branch plus a share of the way back to the root is
shortest. Radii follow Murray's law, r^3 = sum of the children's r^3 (Murray 1926, doi 10.1073/pnas.12.3.207).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.datasets.phantoms.chest import Chest
from ct3d_edge.datasets.phantoms.fields import Field, Grid, Mask, Point, as_field, cloud
from ct3d_edge.datasets.phantoms.patient import Patient

DENSEST_HU = -220.0
"""Of dependent lung that is not diseased."""

HEALTHY_HU = -800.0


@dataclass(frozen=True)
class Burden:
    """Extra density of a pair of lungs: the share of them that lesions would fill, and the lesions' HU."""

    fraction: float
    glass_hu: float
    solid_hu: float
    solid: float  # share of the lesions that is consolidation

    @property
    def extra_hu(self) -> float:
        """HU that these lesions add to the mean of the lungs."""
        return self.fraction * (self.glass_hu + self.solid * (self.solid_hu - self.glass_hu) - HEALTHY_HU)


def draw_burden(rng: np.random.Generator) -> Burden:
    """Draw 6 to 57 % of the lungs, most often about 17 %."""
    return Burden(
        fraction=float(np.exp(rng.uniform(np.log(0.065), np.log(0.57)))),
        glass_hu=rng.uniform(-640, -480),
        solid_hu=rng.uniform(-260, -130),
        solid=max(0.0, rng.uniform(-0.12, 0.35)),
    )


def lung_tissue(chest: Chest, rng: np.random.Generator, extra_hu: float) -> Field:
    """Draw lung attenuation in HU, a coarse field.

    Parameters
    ----------
    extra_hu
        Mean HU over the lungs that poor inspiration and dependent density add.
    """
    grid = chest.grid
    diffuse = rng.uniform(0.0, 0.6)
    tissue = rng.uniform(-890, -770) + diffuse * extra_hu + 18 * cloud(rng, grid, 40.0)
    tissue = tissue + _gravity(chest, rng, rng.uniform(15, 50) + (1 - diffuse) * extra_hu)
    tissue = np.minimum(tissue, DENSEST_HU) + _fissures(chest.patient, rng) + _emphysema(chest, rng)
    return as_field(tissue + rng.uniform(10, 26) * cloud(rng, grid, 5.0))


def _gravity(chest: Chest, rng: np.random.Generator, mean_hu: float) -> Field:
    """Density that grows toward the back, `mean_hu` on average over the lungs."""
    patient = chest.patient
    behind = (patient.y - patient.body_centre) / patient.cavity_axes[1].max()
    steep = rng.uniform(0.1, 0.4)
    pull = np.exp(-(behind + 1) / steep) * (1 + 0.25 * cloud(rng, chest.grid, 35.0))
    inside = chest.inside_lung
    return as_field(pull * (mean_hu / max(float(pull[inside].mean()), 0.02)))


def _fissures(patient: Patient, rng: np.random.Generator) -> Field:
    """Oblique fissures: thin bright planes that fall from the upper back to the lower front."""
    bend, slant = 6 * cloud(rng, patient.grid, 55.0), rng.uniform(0.75, 1.0)
    plane = (patient.y - 12) * np.sin(slant) + (patient.z - patient.level(0.5)) * np.cos(slant) + bend
    return as_field(rng.uniform(30, 110) * np.exp(-np.square((plane + 4 * np.sign(patient.x)) / 1.8)))


def _emphysema(chest: Chest, rng: np.random.Generator) -> Field:
    depth = max(0.0, rng.uniform(-120, 70))
    return as_field(-depth * np.clip(cloud(rng, chest.grid, 11.0) - 0.4, 0, 1.5))


BALANCE = 0.45  # share of the way back to the root that counts when a branch is chosen
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))
POINTS_PER_VOXEL = 7


@dataclass(frozen=True)
class Tree:
    """Segments of a tree: ends in mm, shape (segments, 3) as x, y, z, and radii in mm, shape (segments,)."""

    start: Field
    end: Field
    radius: Field


def grow(rng: np.random.Generator, grid: Grid, region: Field, root: Point, *, tips: int, tip_radius: float) -> Tree:
    """Grow a tree from `root` through `tips` random places in `region`.

    Parameters
    ----------
    region
        Coarse field (z, y, x): the weight with which a place is chosen, 0 where the tree must not end.
    tip_radius
        Of the thinnest branches, in mm.
    """
    places = np.concatenate([np.asarray([root], dtype=np.float32), sample_places(rng, grid, region, tips)])
    order, parent = _span(places)
    radius = _murray(order, parent, tip_radius)
    places = _straighten(places, order, parent, radius)
    children = order[1:]
    return Tree(places[parent[children]], places[children], radius[children])


def join(trees: list[Tree]) -> Tree:
    """Put the segments of several trees together."""
    return Tree(
        np.concatenate([tree.start for tree in trees]),
        np.concatenate([tree.end for tree in trees]),
        np.concatenate([tree.radius for tree in trees]),
    )


def sample_places(rng: np.random.Generator, grid: Grid, weight: Field, count: int) -> Field:
    """Draw `count` places in mm, (count, 3) as x, y, z, with density `weight` over the coarse grid."""
    total = np.cumsum(weight, dtype=np.float64)
    picks = np.searchsorted(total, rng.random(count) * total[-1], side="right")
    cells = np.stack(np.unravel_index(np.minimum(picks, weight.size - 1), weight.shape), axis=1)
    fraction = (cells[:, ::-1] + rng.random((count, 3))) / grid.coarse[::-1]
    return as_field((fraction - (0.5, 0.5, 0.0)) * grid.extent)


def _span(places: Field) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Order in which places join the tree, and the parent of each, both (places,)."""
    x, y, z = np.ascontiguousarray(places.T)
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


def _murray(order: NDArray[np.intp], parent: NDArray[np.intp], tip_radius: float) -> Field:
    tips = np.zeros(len(order), dtype=np.float64)
    for node in order[:0:-1]:
        tips[node] = max(tips[node], 1.0)
        tips[parent[node]] += tips[node]
    tips[0] = max(tips[0], 1.0)
    return (tip_radius * np.cbrt(tips)).astype(np.float32)


def _straighten(places: Field, order: NDArray[np.intp], parent: NDArray[np.intp], radius: Field) -> Field:
    """Move every branching place toward the line from its parent to its thickest child."""
    heir = np.arange(len(places))
    for node in order[:0:-1]:
        up = parent[node]
        if heir[up] == up or radius[node] > radius[heir[up]]:
            heir[up] = node
    for _ in range(2):
        middle = (places[parent] + places[heir]) / 2
        middle[0] = places[0]
        tip = heir == np.arange(len(places))
        places = np.where(tip[:, None], places, 0.4 * places + 0.6 * middle).astype(np.float32)
    return places


@dataclass(frozen=True)
class Deposit:
    """Volume of a tree in the voxels of each slice, held as points that each carry a little of it."""

    place: Field  # (points, 2): x, y in voxels
    share: Field  # (points,): fraction of a voxel that the point fills
    first: NDArray[np.intp]  # (slices + 1,): where each slice's points begin
    shape: tuple[int, int]  # (y, x)

    def occupancy(self, index: int) -> Field | None:
        """How much of each voxel of slice `index` the tree fills, (y, x) in 0..1; None when it is absent."""
        here = slice(self.first[index], self.first[index + 1])
        if here.start == here.stop:
            return None
        ny, nx = self.shape
        low = np.floor(self.place[here]).astype(np.intp)
        at = self.place[here] - low
        np.clip(low, 0, (nx - 2, ny - 2), out=low)
        corner, share = low[:, 1] * nx + low[:, 0], self.share[here]
        fx, fy = at[:, 0], at[:, 1]
        spots = np.concatenate([corner, corner + 1, corner + nx, corner + nx + 1])
        parts = np.concatenate([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy]) * np.tile(share, 4)
        filled = np.bincount(spots, parts, minlength=nx * ny).reshape(ny, nx)
        return np.minimum(filled, 1.0, dtype=np.float32, casting="same_kind")


def deposit(tree: Tree, grid: Grid, slice_mm: float) -> Deposit:
    """Spread the volume of `tree` over the voxels of slices `slice_mm` thick.

    Steps along each branch become points on a sunflower disc across it: volumes, and so partial volumes, come
    out right at any voxel size, from vessels thinner than a voxel to the hilum.
    """
    centre, across, radius, step = _steps(tree, grid, slice_mm)
    voxel = grid.spacing[0] * grid.spacing[1] * slice_mm
    volume = np.pi * np.square(radius) * step
    copies = np.ceil(volume / voxel * POINTS_PER_VOXEL).astype(np.intp).clip(1, 600)
    owner = np.repeat(np.arange(len(copies)), copies)
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(copies) - copies, copies)
    reach = radius[owner] * np.sqrt((rank + 0.5) / copies[owner])
    turn = rank * GOLDEN_ANGLE + owner
    offset = across[owner, 0] * np.cos(turn)[:, None] + across[owner, 1] * np.sin(turn)[:, None]
    points = centre[owner] + (reach[:, None] * offset).astype(np.float32)
    return _sort(points, (volume / voxel / copies)[owner], grid, slice_mm)


def _steps(tree: Tree, grid: Grid, slice_mm: float) -> tuple[Field, Field, Field, Field]:
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


def _sort(points: Field, share: Field, grid: Grid, slice_mm: float) -> Deposit:
    nx, ny, nz = grid.shape
    position = points / np.asarray(grid.spacing, dtype=np.float32)
    index = np.floor(position[:, 2]).astype(np.intp)
    inside = np.abs(position[:, 2] - index - 0.5) * grid.spacing[2] <= slice_mm / 2
    inside &= (index >= 0) & (index < nz)
    index, position, share = index[inside], position[inside], share[inside]
    order = np.argsort(index, kind="stable")
    place = as_field(position[order, :2] + ((nx - 1) / 2, (ny - 1) / 2))
    first = np.searchsorted(index[order], np.arange(nz + 1))
    return Deposit(place, as_field(share[order]), first, (ny, nx))


LESION_HU = (-690.0, -110.0)

PLEURA_MM = 10.0
"""Depth under the pleura at which foci are e times rarer."""


@dataclass(frozen=True)
class Lesions:
    """Coarse fields (z, y, x): how much of each voxel is lesion (0..1), and the HU of that lesion."""

    presence: Field
    hu: Field

    def painted_on(self, lung_hu: Field) -> Field:
        """Lung attenuation with the lesions in it, nowhere less dense than without."""
        return as_field(lung_hu + self.presence * (np.maximum(self.hu, lung_hu) - lung_hu))


def grow_lesions(chest: Chest, rng: np.random.Generator, burden: Burden) -> Lesions:
    """Draw lesions that fill `burden.fraction` of the lung voxels of the coarse grid."""
    inside = chest.inside_lung
    level = _level(chest, rng)
    surface = float(np.quantile(level[inside], 1 - burden.fraction))
    # The coarse field ends a little outside the lung, so that enlarging it does not fade it at the pleura.
    presence = np.clip((level - surface) / rng.uniform(3, 9) + 0.5, 0, 1)
    core = float(np.quantile(level[inside], 1 - burden.fraction * burden.solid))
    solid = np.clip((level - core) / 4, 0, 1)
    glass = burden.glass_hu + 35 * cloud(rng, chest.grid, 25.0) + 45 * cloud(rng, chest.grid, 5.0)
    hu = np.clip(glass + solid * (burden.solid_hu - burden.glass_hu), *LESION_HU)
    return Lesions(as_field(presence), as_field(hu))


def _level(chest: Chest, rng: np.random.Generator) -> Field:
    """Depth below the surface of the nearest focus in mm, roughened, lowered away from pleura and base."""
    grid, patient, depth = chest.grid, chest.patient, chest.pleura_depth
    near = chest.lung > -2 * grid.extent[0] / grid.coarse[2]
    level = np.full(grid.coarse, -1e3, dtype=np.float32)
    level[near] = _nearest(sample_places(rng, grid, _wish(chest), int(rng.integers(4, 26))), chest, near, rng)
    rough = 6 * cloud(rng, grid, 20.0) + 3.5 * cloud(rng, grid, 9.0)
    return as_field(level + rough - 0.3 * depth - 14 * patient.height)


def _wish(chest: Chest) -> Field:
    """Density of foci: under the pleura, low, and rather behind."""
    patient = chest.patient
    density = np.exp(-chest.pleura_depth / PLEURA_MM - 2.2 * np.maximum(patient.height, 0))
    return as_field(density * chest.inside_lung * np.where(patient.y < patient.body_centre, 1.6, 1.0))


def _nearest(centres: Field, chest: Chest, near: Mask, rng: np.random.Generator) -> Field:
    """Largest (radius - distance) over the foci in mm, at the voxels `near`, (voxels,)."""
    x, y, z = (np.broadcast_to(axis, near.shape)[near] for axis in chest.patient.place)
    radii = rng.uniform(8, 32, len(centres)).astype(np.float32)
    best = np.full(x.shape, -1e3, dtype=np.float32)
    for (cx, cy, cz), radius in zip(centres, radii, strict=True):
        distance = np.sqrt(np.square(x - cx) + np.square(y - cy) + np.square(z - cz))
        np.maximum(best, radius - distance, out=best)
    return best
