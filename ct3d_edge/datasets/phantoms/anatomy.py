"""Chest wall and mediastinum of a phantom, as coarse distance fields."""

from dataclasses import dataclass

import numpy as np

from ct3d_edge.datasets.phantoms.fields import (
    Field,
    Point,
    as_field,
    capsule,
    cloud,
    ellipsoid,
    oval,
    profile,
    rounded_max,
    rounded_min,
)
from ct3d_edge.datasets.phantoms.patient import SPINE_FORWARD, Patient

VERTEBRA_MM = 27.0
"""One vertebral body and one disc."""

RIB_DROP = 38.0
"""mm by which a rib falls between the spine and the flank, and again between the flank and the sternum."""


@dataclass(frozen=True)
class ChestWall:
    """Distance fields, mm, positive inside."""

    body: Field
    muscle: Field
    cavity: Field
    bone: Field
    spine_y: Field  # (z, 1, 1): centre of the vertebral bodies


def build_wall(patient: Patient, rng: np.random.Generator) -> ChestWall:
    """Build everything from the skin to the inside of the rib cage."""
    trunk = _trunk(patient, rng)
    muscle = _muscle(trunk, patient, rng)
    spine_y = _spine_line(patient)
    cavity = _cavity(patient, rng, spine_y)
    bone = np.maximum(_ribs(cavity, patient), _spine(spine_y, patient))
    np.maximum(bone, _sternum(patient), out=bone)
    np.maximum(bone, _shoulders(muscle, patient), out=bone)
    body = rounded_max(trunk, _breasts(patient), 14.0) if patient.breast > 4 else trunk
    return ChestWall(body, muscle, cavity, bone, spine_y)


def _trunk(patient: Patient, rng: np.random.Generator) -> Field:
    width, depth = patient.body_axes
    y = patient.y - patient.body_centre
    outline = oval(patient.x, y, width, depth, power=patient.boxiness)
    # The furrow over the spine, between the two long muscles of the back.
    furrow = 7 * np.exp(-np.square(patient.x / 16)) * np.clip(-y / depth, 0, 1)
    return as_field(outline - furrow + 2.5 * cloud(rng, patient.grid, 90.0))


def _breasts(patient: Patient) -> Field:
    across, forward = 0.46 * patient.half_width, 12 + 0.82 * patient.half_depth
    place = as_field(np.abs(patient.x) - across), patient.y - forward, patient.z - patient.level(0.4)
    return ellipsoid(place, (0.36 * patient.half_width, patient.breast + 16, 62.0))


def _muscle(trunk: Field, patient: Patient, rng: np.random.Generator) -> Field:
    # Fat is thicker at the flanks than over the sternum and the spinous processes.
    flank = 0.6 + 0.5 * np.square(patient.x / patient.half_width)
    return as_field(trunk - patient.fat * flank * (1 + 0.12 * cloud(rng, patient.grid, 45.0)) - 2)


def _cavity(patient: Patient, rng: np.random.Generator, spine_y: Field) -> Field:
    width, depth = patient.cavity_axes
    inside = oval(patient.x, patient.y - patient.body_centre, width, depth, power=patient.boxiness)
    # Behind, the rib cage is drawn in toward the spine, and the lungs lie in gutters on both sides of it.
    inside = rounded_min(inside, -oval(patient.x, patient.y - spine_y + 33, 21.0, 27.0), 14.0)
    return as_field(inside + 1.5 * cloud(rng, patient.grid, 60.0))


def _spine_line(patient: Patient) -> Field:
    """Follow the back of the rib cage, but straighter than it."""
    _, depth = patient.cavity_axes
    behind = patient.body_centre - depth + SPINE_FORWARD
    return as_field(patient.spine_y + 0.5 * (behind - patient.spine_y))


def _ribs(cavity: Field, patient: Patient) -> Field:
    _, depth = patient.cavity_axes
    # Over the apex the cavity is so small that ribs would follow one another in the plane.
    forward = (patient.y - patient.body_centre) / np.maximum(depth, 0.6 * depth.max())
    phase = (patient.z + RIB_DROP * forward + patient.rib_phase) / patient.rib_pitch
    along_z = 6.0 - np.abs(phase - np.floor(phase) - 0.5) * patient.rib_pitch
    shell = 4.2 - np.abs(cavity + 7.0)
    # In front the ribs end in cartilage, and there are none above the apex or far below the lungs.
    ribs = np.minimum(np.minimum(shell, along_z), 60 * (0.93 - forward))
    height = patient.height
    return as_field(np.minimum(ribs, 200 * np.minimum(1.0 - height, height + 0.2)))


def _spine(spine_y: Field, patient: Patient) -> Field:
    x, y = patient.x, patient.y - spine_y
    phase = (patient.z + patient.rib_phase) / VERTEBRA_MM
    beat = np.abs(phase - np.floor(phase) - 0.5) * VERTEBRA_MM  # mm from the middle of the vertebra
    body = np.minimum(oval(x, y, 18.0, 14.5, power=2.3), 11.0 - beat)
    # Transverse processes sweep back as they leave the arch.
    sweep = np.minimum(4.0 - np.abs(y + 22 + 0.3 * np.abs(x)), 34 - np.abs(x)) - 0.35 * beat
    arch = np.maximum(oval(x, y + 22, 15.5, 12.5), sweep)
    thorn = np.minimum(3.2 - np.abs(x), 13 - np.abs(y + 44)) - 0.25 * beat
    canal = oval(x, y + 21, 10.0, 8.5)
    return as_field(np.minimum(np.maximum(np.maximum(body, arch), thorn), -canal))


def _sternum(patient: Patient) -> Field:
    _, depth = patient.cavity_axes
    height = patient.height
    half_width = np.where(height > 0.7, 26.0, 17.0)
    plate = oval(patient.x, patient.y - patient.body_centre - depth - 8, as_field(half_width), 6.0)
    return as_field(np.minimum(plate, 200 * np.minimum(height - 0.3, 0.86 - height)))


def _shoulders(muscle: Field, patient: Patient) -> Field:
    """Shoulder blades, clavicles and the heads of the raised arms."""
    height, side = patient.height, as_field(np.abs(patient.x))
    y, width = patient.y - patient.body_centre, patient.half_width
    blade = np.minimum(3.2 - np.abs(muscle - 11), side - 0.38 * width)
    blade = np.minimum(blade, np.minimum(-10 - y, 200 * np.minimum(height - 0.5, 1.0 - height)))
    front = 12 + 0.42 * patient.half_depth
    inner, outer = (22.0, front, patient.level(0.88)), (0.72 * width, front - 40, patient.level(1.0))
    clavicle = capsule((side, patient.y, patient.z), inner, outer, 6.5)
    head = ellipsoid((side - 0.84 * width, y + 12, patient.z - patient.level(1.0)), (20.0, 22.0, 26.0))
    return as_field(np.maximum(np.maximum(blade, clavicle), np.minimum(head, muscle - 3)))


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
