"""Viral pneumonia as CT shows it: patches of ground glass with consolidated cores, peripheral and basal."""

from dataclasses import dataclass

import numpy as np

from ct3d_edge.datasets.phantoms.chest import Chest
from ct3d_edge.datasets.phantoms.grid import Field, Mask, cloud
from ct3d_edge.datasets.phantoms.parenchyma import Burden
from ct3d_edge.datasets.phantoms.shapes import as_field
from ct3d_edge.datasets.phantoms.trees import sample_places

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
