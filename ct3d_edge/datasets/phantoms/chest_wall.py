"""The chest wall: skin, fat, muscle, rib cage and bones, as coarse distance fields (z, y, x) in mm."""

from dataclasses import dataclass

import numpy as np

from ct3d_edge.datasets.phantoms.grid import Field, cloud
from ct3d_edge.datasets.phantoms.patient import SPINE_FORWARD, Patient
from ct3d_edge.datasets.phantoms.shapes import as_field, capsule, ellipsoid, oval, rounded_max, rounded_min

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
