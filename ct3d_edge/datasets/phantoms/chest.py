"""One patient's chest put together: everything that is the same with and without disease."""

from dataclasses import dataclass

import numpy as np

from ct3d_edge.datasets.phantoms.abdomen import Tissue, above_diaphragm, paint_abdomen
from ct3d_edge.datasets.phantoms.chest_wall import ChestWall, build_wall
from ct3d_edge.datasets.phantoms.grid import Field, Grid, Mask, cloud
from ct3d_edge.datasets.phantoms.mediastinum import Mediastinum, build_mediastinum
from ct3d_edge.datasets.phantoms.patient import Patient, draw_patient
from ct3d_edge.datasets.phantoms.shapes import as_field, rounded_min


@dataclass(frozen=True)
class Chest:
    """Coarse fields (z, y, x): shapes in mm, positive inside, and attenuations in HU."""

    patient: Patient
    wall: ChestWall
    middle: Mediastinum
    lung: Field
    organ: Field  # heart, great vessels, liver, spleen, stomach, bowel, kidneys
    organ_hu: Field
    gas: Field  # in stomach and bowel
    muscle_hu: Field

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""
        return self.patient.grid

    @property
    def inside_lung(self) -> Mask:
        """Coarse voxels whose middle lies in lung."""
        return self.lung > 0

    @property
    def pleura_depth(self) -> Field:
        """Depth under the ribs in mm, 0 outside."""
        return as_field(np.maximum(self.wall.cavity - 2.5, 0))


def build_chest(grid: Grid, rng: np.random.Generator) -> Chest:
    """Draw one patient and build the chest."""
    patient = draw_patient(rng, grid)
    wall = build_wall(patient, rng)
    middle = build_mediastinum(patient, wall)
    above = above_diaphragm(patient, rng)
    inside = rounded_min(wall.cavity - 2.5, -middle.outline, 7.0)
    lung = rounded_min(inside, as_field(0.75 * above), 4.0)
    tissue = Tissue(np.full_like(lung, -50.0), np.full_like(lung, patient.muscle_hu))
    gas = paint_abdomen(tissue, patient, wall, above, rng)
    tissue.add(np.minimum(middle.heart, above + 5), patient.blood_hu)
    tissue.add(middle.vessels, patient.blood_hu)
    return Chest(patient, wall, middle, lung, tissue.shape, tissue.hu, gas, _muscle_hu(patient, wall, rng))


def _muscle_hu(patient: Patient, wall: ChestWall, rng: np.random.Generator) -> Field:
    """Muscle in layers, with sheets of fat between them and marbling in them."""
    layer = (wall.muscle + 6 * cloud(rng, patient.grid, 38.0)) / 17
    between = np.clip(1 - np.abs(layer - np.floor(layer) - 0.5) * 11, 0, 1)
    marbling = np.clip(cloud(rng, patient.grid, 9.0) - 1.0, 0, 1)
    return as_field(
        patient.muscle_hu - 95 * between * rng.uniform(0.3, 1) * np.clip(1.6 - wall.muscle / 35, 0, 1) - 90 * marbling
    )
