"""One patient's chest put together, with the upper abdomen: everything that is the same with and without disease."""

from dataclasses import dataclass

import numpy as np

from ct3d_edge.datasets.phantoms.fields import (
    Field,
    Grid,
    Mask,
    Point,
    as_field,
    capsule,
    ellipsoid,
    oval,
    profile,
    rounded_max,
    rounded_min,
    union,
    value_noise,
)
from ct3d_edge.datasets.phantoms.patient import ChestWall, Patient, build_wall, draw_patient

CARINA = 0.63
"""Height of the tracheal bifurcation between lung base (0) and apex (1)."""


@dataclass(frozen=True)
class Mediastinum:
    """Distance fields in mm, positive inside, and where the lungs' vessels and bronchi enter them."""

    heart: Field
    vessels: Field
    lumen: Field  # trachea and main bronchi
    outline: Field  # all of it with its fat: where no lung can be
    hila: tuple[Point, Point]  # patient's right, left


def build_mediastinum(patient: Patient, wall: ChestWall) -> Mediastinum:
    """Build what separates the lungs."""
    heart, vessels = _heart(patient), _great_vessels(patient, wall)
    hila = _hila(patient, wall)
    outline = rounded_max(_septum(patient, wall), np.maximum(heart, vessels) + 3, 10.0)
    return Mediastinum(heart, vessels, _airway(patient, wall, hila), outline, hila)


def _spine_at(patient: Patient, wall: ChestWall, z: float) -> float:
    return float(np.interp(z, patient.z.ravel(), wall.spine_y.ravel()))


def _heart(patient: Patient) -> Field:
    x, y = patient.x - 15, patient.y - 12 - 0.22 * patient.half_depth
    z = patient.z - patient.level(patient.dome + 0.13)
    cos, sin = np.cos(patient.heart_tilt), np.sin(patient.heart_tilt)
    # The long axis points to the left, forward and down.
    along, across = x * cos + y * sin + 0.3 * z, y * cos - x * sin
    size = patient.heart
    return ellipsoid((as_field(along), as_field(across), z), (66 * size, 51 * size, 55 * size))


def _great_vessels(patient: Patient, wall: ChestWall) -> Field:
    tubes = [*_arteries(patient, wall), *_veins_and_oesophagus(patient, wall)]
    return union(*(capsule(patient.xyz, *tube) for tube in tubes))


def _arteries(patient: Patient, wall: ChestWall) -> list[tuple[Point, Point, float]]:
    """Aorta and pulmonary arteries as tubes: start, end, radius in mm."""
    level, front = patient.level, 12 + 0.2 * patient.half_depth
    back, back_top = _spine_at(patient, wall, level(0.5)), _spine_at(patient, wall, level(0.72))
    arch_end = (21.0, back_top + 20, level(0.70))
    return [
        ((-12.0, front, level(0.45)), (-10.0, front, level(0.66)), 16.0),
        ((-10.0, front, level(0.69)), arch_end, 13.0),
        (arch_end, (22.0, back + 14, level(0.45)), 12.5),
        ((22.0, back + 14, level(0.45)), (6.0, patient.spine_y + 24, level(-1.2)), 11.5),
        ((15.0, front + 6, level(0.46)), (17.0, front - 6, level(0.57)), 14.5),
        ((14.0, front - 8, level(0.55)), (-36.0, back + 32, level(0.53)), 10.0),
        ((17.0, front - 8, level(0.58)), (38.0, back + 27, level(0.57)), 10.0),
        ((-14.0, back_top + 44, level(0.72)), (-26.0, back_top + 40, level(1.2)), 6.0),
        ((16.0, back_top + 36, level(0.72)), (26.0, back_top + 33, level(1.2)), 5.5),
    ]


def _veins_and_oesophagus(patient: Patient, wall: ChestWall) -> list[tuple[Point, Point, float]]:
    """Superior vena cava, brachiocephalic vein, lower pulmonary veins and oesophagus."""
    level, front = patient.level, 12 + 0.2 * patient.half_depth
    back, back_top = _spine_at(patient, wall, level(0.45)), _spine_at(patient, wall, level(1.0))
    return [
        ((-28.0, front - 4, level(0.42)), (-25.0, front - 2, level(0.82)), 9.0),
        ((-22.0, front + 2, level(0.78)), (28.0, front + 6, level(0.9)), 6.5),
        ((-46.0, back + 24, level(0.42)), (0.0, back + 40, level(0.45)), 8.0),
        ((48.0, back + 22, level(0.42)), (6.0, back + 40, level(0.45)), 8.0),
        ((6.0, patient.spine_y + 24, level(-0.1)), (4.0, back_top + 24, level(1.2)), 6.5),
    ]


def _hila(patient: Patient, wall: ChestWall) -> tuple[Point, Point]:
    spine = _spine_at(patient, wall, patient.level(0.52))
    return (-42.0, spine + 30, patient.level(0.52)), (44.0, spine + 25, patient.level(0.53))


def _airway(patient: Patient, wall: ChestWall, hila: tuple[Point, Point]) -> Field:
    low, high = patient.level(CARINA), patient.level(1.3)
    carina = (0.0, _spine_at(patient, wall, low) + 33, low)
    top = (2.0, _spine_at(patient, wall, high) + 36, high)
    tubes = [(top, 9.0), (hila[0], 7.0), (hila[1], 6.2)]
    return union(*(capsule(patient.xyz, carina, end, radius) for end, radius in tubes))


def _septum(patient: Patient, wall: ChestWall) -> Field:
    """Spine, the fat around the vessels, and in front the sheet where the lungs almost touch."""
    height, spine = patient.height, wall.spine_y
    _, depth = patient.cavity_axes
    block = oval(patient.x, patient.y - spine + 8, 23.0, 27.0)
    block = np.maximum(block, np.minimum(19 - np.abs(patient.x), spine - patient.y))
    width = profile(height, ((0.0, 24.0), (0.5, 31.0), (0.7, 31.0), (0.9, 30.0), (1.0, 27.0)))
    core = oval(patient.x - 1, patient.y - spine - 0.5 * depth, width, 0.5 * depth + 12)
    # Above the aortic arch vessels and thymus fill the space behind the sternum; below it the lungs meet.
    sheet = profile(height, ((0.1, 16.0), (0.3, 7.0), (0.45, 4.0), (0.62, 5.0), (0.75, 16.0), (0.9, 28.0)))
    front = np.minimum(sheet - np.abs(patient.x - 2), patient.y - spine)
    return rounded_max(rounded_max(as_field(block), core, 10.0), as_field(front), 14.0)


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
    return as_field(patient.z - dome + 2.0 * value_noise(rng, patient.grid, 70.0))


def paint_abdomen(tissue: Tissue, patient: Patient, wall: ChestWall, above: Field, rng: np.random.Generator) -> Field:
    """Add the abdominal organs to `tissue`; return the shape of the gas in stomach and bowel, in mm."""
    top = patient.level(patient.dome)
    space = np.minimum(wall.cavity - 4, -0.75 * above - 2.5)
    space = np.minimum(space, -oval(patient.x, patient.y - wall.spine_y + 6, 46.0, 38.0))
    bowel = np.minimum(12 * value_noise(rng, patient.grid, 32.0), np.minimum(space - 6, top - 70 - patient.z))
    tissue.add(as_field(bowel), 25.0)
    _paint_spleen_and_kidneys(tissue, patient, wall, space, top)
    edge = rng.uniform(5, 40) + 0.3 * patient.y + 6 * value_noise(rng, patient.grid, 60.0)
    liver = as_field(np.minimum(space, edge - patient.x))
    tissue.add(liver, patient.liver_hu)
    stomach, gas = _stomach(patient, as_field(space), rng)
    tissue.add(stomach, 20.0)
    bubbles = np.minimum(bowel - 5, 14 * value_noise(rng, patient.grid, 45.0) - 10)
    return as_field(np.maximum(gas, np.minimum(bubbles, -4 - liver)))


def _paint_spleen_and_kidneys(tissue: Tissue, patient: Patient, wall: ChestWall, space: Field, top: float) -> None:
    """Spleen and kidneys: both lie at the back."""
    width, depth = (float(axis.max()) for axis in patient.cavity_axes)
    spleen = ellipsoid((patient.x - 0.66 * width, patient.y + 0.4 * depth, patient.z - top + 46), (38.0, 46.0, 44.0))
    tissue.add(np.minimum(spleen, as_field(space)), 48.0)
    side = as_field(np.abs(patient.x) - 56 - 0.1 * (patient.z - top + 115))
    kidneys = ellipsoid((side, patient.y - wall.spine_y + 6, patient.z - top + 115), (26.0, 29.0, 52.0))
    tissue.add(np.minimum(kidneys, wall.cavity - 6), 32.0)


def _stomach(patient: Patient, space: Field, rng: np.random.Generator) -> tuple[Field, Field]:
    """Stomach and the gas above the fluid in it: the patient lies on the back."""
    width, depth = (float(axis.max()) for axis in patient.cavity_axes)
    x, y = patient.x - 0.42 * width, patient.y - 12 - 0.3 * depth
    z = patient.z - patient.level(patient.dome) + rng.uniform(32, 50)
    stomach = np.minimum(ellipsoid((x, y, z), (46.0, 42.0, 40.0)), space - 1)
    return stomach, as_field(np.minimum(stomach - 3, y - rng.uniform(-15, 30)))


@dataclass(frozen=True)
class Chest:
    """Coarse fields (z, y, x): shapes in mm, positive inside, and attenuations in HU."""

    patient: Patient
    wall: ChestWall
    mediastinum: Mediastinum
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
    mediastinum = build_mediastinum(patient, wall)
    above = above_diaphragm(patient, rng)
    inside = rounded_min(wall.cavity - 2.5, -mediastinum.outline, 7.0)
    lung = rounded_min(inside, as_field(0.75 * above), 4.0)
    tissue = Tissue(np.full_like(lung, -50.0), np.full_like(lung, patient.muscle_hu))
    gas = paint_abdomen(tissue, patient, wall, above, rng)
    tissue.add(np.minimum(mediastinum.heart, above + 5), patient.blood_hu)
    tissue.add(mediastinum.vessels, patient.blood_hu)
    return Chest(patient, wall, mediastinum, lung, tissue.shape, tissue.hu, gas, _muscle_hu(patient, wall, rng))


def _muscle_hu(patient: Patient, wall: ChestWall, rng: np.random.Generator) -> Field:
    """Muscle in layers, with sheets of fat between them and marbling in them."""
    layer = (wall.muscle + 6 * value_noise(rng, patient.grid, 38.0)) / 17
    between = np.clip(1 - np.abs(layer - np.floor(layer) - 0.5) * 11, 0, 1)
    marbling = np.clip(value_noise(rng, patient.grid, 9.0) - 1.0, 0, 1)
    return as_field(
        patient.muscle_hu - 95 * between * rng.uniform(0.3, 1) * np.clip(1.6 - wall.muscle / 35, 0, 1) - 90 * marbling
    )
