"""Attenuation of lung tissue without disease: inflation, gravity, fissures, emphysema, grain.

The classes are balanced here. Every phantom draws a `Burden`. An abnormal lung carries it as lesions; a
normal lung carries about as much extra density as poor inspiration and dependent atelectasis. So a histogram
of the scan says little about the class, while place and texture say everything.
"""

from dataclasses import dataclass

import numpy as np

from ct3d_edge.datasets.phantoms.chest import Chest
from ct3d_edge.datasets.phantoms.grid import Field, cloud
from ct3d_edge.datasets.phantoms.patient import Patient
from ct3d_edge.datasets.phantoms.shapes import as_field

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
