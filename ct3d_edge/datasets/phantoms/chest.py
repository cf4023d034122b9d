"""One patient's chest put together, with the upper abdomen: everything that is the same with and without disease."""

from dataclasses import dataclass

import numpy as np

from ct3d_edge.datasets.phantoms.anatomy import ChestWall, Mediastinum, build_mediastinum, build_wall
from ct3d_edge.datasets.phantoms.fields import Field, Grid, Mask, as_field, cloud, ellipsoid, oval, rounded_min
from ct3d_edge.datasets.phantoms.patient import Patient, draw_patient


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
