"""Between the lungs: heart, great vessels, trachea, main bronchi; coarse distance fields (z, y, x) in mm."""

from dataclasses import dataclass

import numpy as np

from ct3d_edge.datasets.phantoms.chest_wall import ChestWall
from ct3d_edge.datasets.phantoms.grid import Field
from ct3d_edge.datasets.phantoms.patient import Patient
from ct3d_edge.datasets.phantoms.shapes import (
    Point,
    as_field,
    capsule,
    ellipsoid,
    oval,
    profile,
    rounded_max,
)

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
    tubes = [*_arteries(patient, wall), *_veins_and_gullet(patient, wall)]
    place = patient.place
    union = capsule(place, *tubes[0])
    for start, end, radius in tubes[1:]:
        np.maximum(union, capsule(place, start, end, radius), out=union)
    return union


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


def _veins_and_gullet(patient: Patient, wall: ChestWall) -> list[tuple[Point, Point, float]]:
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
    low, high, place = patient.level(CARINA), patient.level(1.3), patient.place
    carina = (0.0, _spine_at(patient, wall, low) + 33, low)
    top = (2.0, _spine_at(patient, wall, high) + 36, high)
    tube = capsule(place, carina, top, 9.0)
    for hilum, radius in zip(hila, (7.0, 6.2), strict=True):
        np.maximum(tube, capsule(place, carina, hilum, radius), out=tube)
    return tube


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
