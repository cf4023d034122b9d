"""Under the diaphragm: liver, spleen, stomach, kidneys and bowel."""

from dataclasses import dataclass

import numpy as np

from ct3d_edge.datasets.phantoms.chest_wall import ChestWall
from ct3d_edge.datasets.phantoms.grid import Field, cloud
from ct3d_edge.datasets.phantoms.patient import Patient
from ct3d_edge.datasets.phantoms.shapes import as_field, ellipsoid, oval


@dataclass
class Tissue:
    """Organs painted one over another: the union of their shapes (mm), and voxel by voxel whose HU it is."""

    shape: Field
    hu: Field

    def add(self, shape: Field, hu: float) -> None:
        """Paint one more organ over those that are there."""
        # With a margin, so that an organ's edge is blended from its own HU and not from its neighbour's.
        self.hu = as_field(np.where(shape > np.maximum(self.shape, -4.0), hu, self.hu))
        self.shape = np.maximum(self.shape, shape)


def above_diaphragm(patient: Patient, rng: np.random.Generator) -> Field:
    """Height above the two domes in mm, (z, y, x): positive in the chest, negative in the abdomen."""
    width, depth = (float(axis.max()) for axis in patient.cavity_axes)
    left = 1 / (1 + np.exp(-patient.x / 12))
    top = patient.level(patient.dome) + 9 - (16 + rng.uniform(-5, 5)) * left
    off_x = (np.abs(patient.x) - 0.5 * width) / (0.62 * width)
    off_y = (patient.y - 12 - 0.12 * depth) / (0.95 * depth)
    fall = np.minimum(np.square(off_x) + np.square(off_y), 1.5)
    dome = top - 0.85 * (top - patient.lung_base) * fall
    return as_field(patient.z - dome + 2.0 * cloud(rng, patient.grid, 70.0))


def paint_abdomen(tissue: Tissue, patient: Patient, wall: ChestWall, above: Field, rng: np.random.Generator) -> Field:
    """Add the abdominal organs to `tissue`; return the shape of the gas in stomach and bowel, in mm."""
    top = patient.level(patient.dome)
    room = np.minimum(wall.cavity - 4, -0.75 * above - 2.5)
    room = np.minimum(room, -oval(patient.x, patient.y - wall.spine_y + 6, 46.0, 38.0))
    bowel = np.minimum(12 * cloud(rng, patient.grid, 32.0), np.minimum(room - 6, top - 70 - patient.z))
    tissue.add(as_field(bowel), 25.0)
    _paint_paired(tissue, patient, wall, room, top)
    edge = rng.uniform(5, 40) + 0.3 * patient.y + 6 * cloud(rng, patient.grid, 60.0)
    liver = as_field(np.minimum(room, edge - patient.x))
    tissue.add(liver, patient.liver_hu)
    stomach, gas = _stomach(patient, as_field(room), rng)
    tissue.add(stomach, 20.0)
    bubbles = np.minimum(bowel - 5, 14 * cloud(rng, patient.grid, 45.0) - 10)
    return as_field(np.maximum(gas, np.minimum(bubbles, -4 - liver)))


def _paint_paired(tissue: Tissue, patient: Patient, wall: ChestWall, room: Field, top: float) -> None:
    """Spleen and kidneys: both lie at the back."""
    width, depth = (float(axis.max()) for axis in patient.cavity_axes)
    spleen = ellipsoid((patient.x - 0.66 * width, patient.y + 0.4 * depth, patient.z - top + 46), (38.0, 46.0, 44.0))
    tissue.add(np.minimum(spleen, as_field(room)), 48.0)
    side = as_field(np.abs(patient.x) - 56 - 0.1 * (patient.z - top + 115))
    kidneys = ellipsoid((side, patient.y - wall.spine_y + 6, patient.z - top + 115), (26.0, 29.0, 52.0))
    tissue.add(np.minimum(kidneys, wall.cavity - 6), 32.0)


def _stomach(patient: Patient, room: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """Stomach and the gas above the fluid in it: the patient lies on the back."""
    width, depth = (float(axis.max()) for axis in patient.cavity_axes)
    x, y = patient.x - 0.42 * width, patient.y - 12 - 0.3 * depth
    z = patient.z - patient.level(patient.dome) + rng.uniform(32, 50)
    stomach = np.minimum(ellipsoid((x, y, z), (46.0, 42.0, 40.0)), room - 1)
    return stomach, as_field(np.minimum(stomach - 3, y - rng.uniform(-15, 30)))
