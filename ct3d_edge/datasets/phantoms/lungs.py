"""Attenuation of lung tissue without disease (inflation, gravity, fissures, emphysema, grain), and lesions.

The classes are balanced here. Every phantom draws a `Burden`. An abnormal lung carries it as lesions; a normal lung
carries about as much extra density as poor inspiration and dependent atelectasis. So a histogram of the scan
hardly separates the classes, while position and texture do.
"""

from dataclasses import dataclass

import numpy as np

from ct3d_edge.datasets.phantoms.chest import Chest
from ct3d_edge.datasets.phantoms.fields import Field, Mask, as_field, value_noise
from ct3d_edge.datasets.phantoms.patient import Patient
from ct3d_edge.datasets.phantoms.trees import sample_points

DENSEST_HU = -220.0
"""Of dependent lung that is not diseased."""

HEALTHY_HU = -800.0

LESION_HU = (-690.0, -110.0)

PLEURA_MM = 10.0
"""Depth under the pleura at which foci are e times rarer."""


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


def draw_lung_tissue(chest: Chest, rng: np.random.Generator, extra_hu: float) -> Field:
    """Draw lung attenuation in HU, a coarse field.

    Parameters
    ----------
    extra_hu
        Mean HU over the lungs that poor inspiration and dependent density add.
    """
    grid = chest.grid
    diffuse = rng.uniform(0.0, 0.6)
    tissue = rng.uniform(-890, -770) + diffuse * extra_hu + 18 * value_noise(rng, grid, 40.0)
    tissue = tissue + _gravity(chest, rng, rng.uniform(15, 50) + (1 - diffuse) * extra_hu)
    tissue = np.minimum(tissue, DENSEST_HU) + _fissures(chest.patient, rng) + _emphysema(chest, rng)
    return as_field(tissue + rng.uniform(10, 26) * value_noise(rng, grid, 5.0))


def _gravity(chest: Chest, rng: np.random.Generator, mean_hu: float) -> Field:
    """Density that grows toward the back, `mean_hu` on average over the lungs."""
    patient = chest.patient
    behind = (patient.y - patient.body_centre) / patient.cavity_axes[1].max()
    steep = rng.uniform(0.1, 0.4)
    pull = np.exp(-(behind + 1) / steep) * (1 + 0.25 * value_noise(rng, chest.grid, 35.0))
    inside = chest.inside_lung
    return as_field(pull * (mean_hu / max(float(pull[inside].mean()), 0.02)))


def _fissures(patient: Patient, rng: np.random.Generator) -> Field:
    """Oblique fissures: thin bright planes that fall from the upper back to the lower front."""
    bend, slant = 6 * value_noise(rng, patient.grid, 55.0), rng.uniform(0.75, 1.0)
    plane = (patient.y - 12) * np.sin(slant) + (patient.z - patient.level(0.5)) * np.cos(slant) + bend
    return as_field(rng.uniform(30, 110) * np.exp(-np.square((plane + 4 * np.sign(patient.x)) / 1.8)))


def _emphysema(chest: Chest, rng: np.random.Generator) -> Field:
    depth = max(0.0, rng.uniform(-120, 70))
    return as_field(-depth * np.clip(value_noise(rng, chest.grid, 11.0) - 0.4, 0, 1.5))


@dataclass(frozen=True)
class Lesions:
    """Coarse fields (z, y, x): how much of each voxel is lesion (0..1), and the HU of that lesion."""

    presence: Field
    hu: Field

    def painted_on(self, lung_hu: Field) -> Field:
        """Lung attenuation with the lesions in it, nowhere less dense than without."""
        return as_field(lung_hu + self.presence * (np.maximum(self.hu, lung_hu) - lung_hu))


def draw_lesions(chest: Chest, rng: np.random.Generator, burden: Burden) -> Lesions:
    """Draw lesions that fill `burden.fraction` of the lung voxels of the coarse grid."""
    inside = chest.inside_lung
    level = _depth_in_lesions(chest, rng)
    surface = float(np.quantile(level[inside], 1 - burden.fraction))
    # The coarse field ends a little outside the lung, so that enlarging it does not fade it at the pleura.
    presence = np.clip((level - surface) / rng.uniform(3, 9) + 0.5, 0, 1)
    core = float(np.quantile(level[inside], 1 - burden.fraction * burden.solid))
    solid = np.clip((level - core) / 4, 0, 1)
    glass = burden.glass_hu + 35 * value_noise(rng, chest.grid, 25.0) + 45 * value_noise(rng, chest.grid, 5.0)
    hu = np.clip(glass + solid * (burden.solid_hu - burden.glass_hu), *LESION_HU)
    return Lesions(as_field(presence), as_field(hu))


def _depth_in_lesions(chest: Chest, rng: np.random.Generator) -> Field:
    """Depth below the surface of the nearest focus in mm, roughened, lowered away from pleura and base."""
    grid, patient, depth = chest.grid, chest.patient, chest.pleura_depth
    near = chest.lung > -2 * grid.extent[0] / grid.coarse[2]
    level = np.full(grid.coarse, -1e3, dtype=np.float32)
    centres = sample_points(rng, grid, _focus_density(chest), int(rng.integers(4, 26)))
    level[near] = _depth_in_foci(centres, chest, near, rng)
    rough = 6 * value_noise(rng, grid, 20.0) + 3.5 * value_noise(rng, grid, 9.0)
    return as_field(level + rough - 0.3 * depth - 14 * patient.height)


def _focus_density(chest: Chest) -> Field:
    """Density of foci: under the pleura, low, and rather behind."""
    patient = chest.patient
    density = np.exp(-chest.pleura_depth / PLEURA_MM - 2.2 * np.maximum(patient.height, 0))
    return as_field(density * chest.inside_lung * np.where(patient.y < patient.body_centre, 1.6, 1.0))


def _depth_in_foci(centres: Field, chest: Chest, near: Mask, rng: np.random.Generator) -> Field:
    """Largest (radius - distance) over the foci in mm, at the voxels `near`, (voxels,)."""
    x, y, z = (np.broadcast_to(axis, near.shape)[near] for axis in chest.patient.xyz)
    radii = rng.uniform(8, 32, len(centres)).astype(np.float32)
    best = np.full(x.shape, -1e3, dtype=np.float32)
    for (cx, cy, cz), radius in zip(centres, radii, strict=True):
        distance = np.sqrt(np.square(x - cx) + np.square(y - cy) + np.square(z - cz))
        np.maximum(best, radius - distance, out=best)
    return best
