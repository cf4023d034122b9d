"""One patient's measures, drawn at random: sizes in mm, attenuations in HU.

Nothing here depends on the class: what a classifier learns here, it learns about people, not about disease.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ct3d_edge.datasets.phantoms.fields import Field, Grid, Place, as_field, profile

# Fractions of the greatest half width or half depth, at heights from the lung base (0) to the lung apex (1).
BODY_WIDTH = ((-1.0, 0.97), (0.0, 0.96), (0.45, 1.0), (0.85, 1.02), (1.0, 0.95), (1.12, 0.66), (1.25, 0.42))
BODY_DEPTH = ((-1.0, 0.98), (0.0, 1.0), (0.45, 1.0), (0.8, 0.88), (1.0, 0.68), (1.12, 0.58), (1.25, 0.5))
CAVITY_WIDTH = ((0.0, 1.0), (0.4, 1.0), (0.6, 0.93), (0.78, 0.76), (0.9, 0.56), (0.97, 0.38), (1.02, 0.2))
CAVITY_DEPTH = ((0.0, 1.0), (0.4, 1.0), (0.6, 0.95), (0.78, 0.8), (0.9, 0.6), (0.97, 0.42), (1.02, 0.24))


SPINE_FORWARD = 35.0
"""mm from the back of the rib cage forward to the centre of a vertebral body."""


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
    def place(self) -> Place:
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
