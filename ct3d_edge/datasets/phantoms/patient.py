"""One patient's measures, drawn at random, and the chest wall that follows from them, as coarse distance fields.

Sizes in mm, attenuations in HU. Nothing here depends on the class: what a classifier learns here, it learns about
people, not about disease.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ct3d_edge.datasets.phantoms.fields import (
    Coordinates,
    Field,
    Grid,
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

# Fractions of the greatest half width or half depth, at heights from the lung base (0) to the lung apex (1).
BODY_WIDTH = ((-1.0, 0.97), (0.0, 0.96), (0.45, 1.0), (0.85, 1.02), (1.0, 0.95), (1.12, 0.66), (1.25, 0.42))
BODY_DEPTH = ((-1.0, 0.98), (0.0, 1.0), (0.45, 1.0), (0.8, 0.88), (1.0, 0.68), (1.12, 0.58), (1.25, 0.5))
CAVITY_WIDTH = ((0.0, 1.0), (0.4, 1.0), (0.6, 0.93), (0.78, 0.76), (0.9, 0.56), (0.97, 0.38), (1.02, 0.2))
CAVITY_DEPTH = ((0.0, 1.0), (0.4, 1.0), (0.6, 0.95), (0.78, 0.8), (0.9, 0.6), (0.97, 0.42), (1.02, 0.24))

SPINE_FORWARD = 35.0
"""mm from the back of the rib cage forward to the centre of a vertebral body."""

VERTEBRA_MM = 27.0
"""One vertebral body and one disc."""

RIB_DROP = 38.0
"""mm by which a rib falls between the spine and the flank, and again between the flank and the sternum."""


@dataclass(frozen=True)
class Patient:
    """Measures of one patient in one field of view, mm unless named otherwise."""

    grid: Grid
    half_width: float
    half_depth: float
    boxiness: float
    fat: float
    wall: float
    breast: float
    lung_base: float
    lung_apex: float
    dome: float
    heart: float
    heart_tilt: float
    rib_pitch: float
    rib_phase: float
    muscle_hu: float
    blood_hu: float
    liver_hu: float
    bone_hu: float

    @property
    def x(self) -> Field:
        """Coarse x in mm, (1, 1, x)."""
        return self.grid.x

    @property
    def y(self) -> Field:
        """Coarse y in mm, (1, y, 1)."""
        return self.grid.y

    @property
    def z(self) -> Field:
        """Coarse z in mm, (z, 1, 1)."""
        return self.grid.z

    @property
    def xyz(self) -> Coordinates:
        """All three."""
        return self.grid.x, self.grid.y, self.grid.z

    @cached_property
    def height(self) -> Field:
        """Slice heights from the lowest lung (0) to the lung apex (1), shape (z, 1, 1)."""
        return as_field((self.grid.z - self.lung_base) / (self.lung_apex - self.lung_base))

    def level(self, fraction: float) -> float:
        """Height in mm of a fraction of the way from lung base (0) to apex (1)."""
        return self.lung_base + fraction * (self.lung_apex - self.lung_base)

    @cached_property
    def body_axes(self) -> tuple[Field, Field]:
        """Half width and half depth of the skin contour at each slice, each (z, 1, 1)."""
        v = self.height
        return profile(v, BODY_WIDTH) * self.half_width, profile(v, BODY_DEPTH) * self.half_depth

    @cached_property
    def cavity_axes(self) -> tuple[Field, Field]:
        """Half width and half depth of the rib cage's inside at each slice, each (z, 1, 1)."""
        v = self.height
        margin = self.fat + self.wall
        width = profile(v, CAVITY_WIDTH) * (self.half_width - margin)
        return width, profile(v, CAVITY_DEPTH) * (self.half_depth - 0.75 * margin)

    @cached_property
    def body_centre(self) -> Field:
        """Where the body's centre is in y, (z, 1, 1): a shallower part still lies on the same table."""
        _, depth = self.body_axes
        return as_field(0.65 * (depth - self.half_depth) + 12)

    @property
    def spine_y(self) -> float:
        """Where the middle vertebral bodies are in y."""
        return 12 - (self.half_depth - 0.75 * (self.fat + self.wall)) + SPINE_FORWARD


def draw_patient(rng: np.random.Generator, grid: Grid) -> Patient:
    """Draw a patient who fits the field of view of `grid`."""
    extent = grid.extent
    half_width = extent[0] / 2 * rng.uniform(0.80, 0.95)
    lung = min(max(rng.uniform(0.6, 0.8) * extent[2], 190), 290, 0.92 * extent[2])
    above = rng.uniform(0.15, 0.5) * (extent[2] - lung)
    apex = extent[2] - min(above, 75)
    return Patient(
        grid=grid,
        half_width=half_width,
        half_depth=half_width * rng.uniform(0.66, 0.78),
        boxiness=rng.uniform(2.2, 2.7),
        fat=rng.uniform(4, 22),
        wall=rng.uniform(17, 22),
        breast=max(0.0, rng.uniform(-22, 22)),
        lung_base=apex - lung,
        lung_apex=apex,
        dome=rng.uniform(0.24, 0.34),
        heart=rng.uniform(0.85, 1.15),
        heart_tilt=rng.uniform(0.35, 0.8),
        rib_pitch=rng.uniform(20, 26),
        rib_phase=rng.uniform(0, 26),
        muscle_hu=rng.uniform(40, 65),
        blood_hu=rng.uniform(28, 50),
        liver_hu=rng.uniform(35, 70),
        bone_hu=rng.uniform(90, 210),
    )


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
    bone = union(_ribs(cavity, patient), _spine(spine_y, patient), _sternum(patient), _shoulders(muscle, patient))
    body = rounded_max(trunk, _breasts(patient), 14.0) if patient.breast > 4 else trunk
    return ChestWall(body, muscle, cavity, bone, spine_y)


def _trunk(patient: Patient, rng: np.random.Generator) -> Field:
    width, depth = patient.body_axes
    y = patient.y - patient.body_centre
    outline = oval(patient.x, y, width, depth, power=patient.boxiness)
    # The furrow over the spine, between the two long muscles of the back.
    furrow = 7 * np.exp(-np.square(patient.x / 16)) * np.clip(-y / depth, 0, 1)
    return as_field(outline - furrow + 2.5 * value_noise(rng, patient.grid, 90.0))


def _breasts(patient: Patient) -> Field:
    across, forward = 0.46 * patient.half_width, 12 + 0.82 * patient.half_depth
    xyz = as_field(np.abs(patient.x) - across), patient.y - forward, patient.z - patient.level(0.4)
    return ellipsoid(xyz, (0.36 * patient.half_width, patient.breast + 16, 62.0))


def _muscle(trunk: Field, patient: Patient, rng: np.random.Generator) -> Field:
    # Fat is thicker at the flanks than over the sternum and the spinous processes.
    flank = 0.6 + 0.5 * np.square(patient.x / patient.half_width)
    return as_field(trunk - patient.fat * flank * (1 + 0.12 * value_noise(rng, patient.grid, 45.0)) - 2)


def _cavity(patient: Patient, rng: np.random.Generator, spine_y: Field) -> Field:
    width, depth = patient.cavity_axes
    inside = oval(patient.x, patient.y - patient.body_centre, width, depth, power=patient.boxiness)
    # Behind, the rib cage is drawn in toward the spine, and the lungs lie in gutters on both sides of it.
    inside = rounded_min(inside, -oval(patient.x, patient.y - spine_y + 33, 21.0, 27.0), 14.0)
    return as_field(inside + 1.5 * value_noise(rng, patient.grid, 60.0))


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
    from_middle = np.abs(phase - np.floor(phase) - 0.5) * VERTEBRA_MM  # mm from the middle of the vertebra
    body = np.minimum(oval(x, y, 18.0, 14.5, power=2.3), 11.0 - from_middle)
    # Transverse processes sweep back as they leave the arch.
    sweep = np.minimum(4.0 - np.abs(y + 22 + 0.3 * np.abs(x)), 34 - np.abs(x)) - 0.35 * from_middle
    arch = np.maximum(oval(x, y + 22, 15.5, 12.5), sweep)
    spinous_process = np.minimum(3.2 - np.abs(x), 13 - np.abs(y + 44)) - 0.25 * from_middle
    canal = oval(x, y + 21, 10.0, 8.5)
    return as_field(np.minimum(np.maximum(np.maximum(body, arch), spinous_process), -canal))


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
