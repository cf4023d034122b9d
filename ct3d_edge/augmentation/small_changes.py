"""Our augmentation: small changes such as lie between two scans of one chest, all drawn anew each time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.augmentation.trilinear import affine_linear
from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.preprocess import Placement


@dataclass(frozen=True)
class SmallChanges:
    """A small affine change of place, perhaps mirrored, with another brightness, contrast and noise.

    Angles are those of a body as long as it is wide: network axes are taken to span equal lengths, which a chest CT
    nearly does (about 350 mm across, 300 mm along), whatever number of voxels they have. Values outside the scan are
    air. Every amount is drawn uniformly from minus to plus its parameter, noise from 0.

    Parameters
    ----------
    hu_window
        ``(low, high)`` in HU that became [0, 1].
    flip_axis
        Network axis from left to right, mirrored in half of the draws; None never. See `left_right_axis`.
    rotation
        Degrees about the body axis, which is network axis 2.
    tilt
        Degrees about each of the other two.
    scale
        In the plane: 0.1 is 0.9 to 1.1 times as large.
    shift
        Along each axis, as a part of its length.
    hu_shift
        HU added.
    stretch
        Contrast: distances from the window's lower end become 0.95 to 1.05 times as large for 0.05.
    noise
        Largest standard deviation in HU of Gaussian noise, independent from voxel to voxel.

    Raises
    ------
    UsageError
        If an amount is negative, the scale or stretch not below 1, or the axis not one of three.
    """

    hu_window: tuple[float, float] = (-1000.0, 400.0)
    flip_axis: int | None = 1
    rotation: float = 10.0
    tilt: float = 3.0
    scale: float = 0.1
    shift: float = 0.05
    hu_shift: float = 30.0
    stretch: float = 0.05
    noise: float = 20.0

    def __post_init__(self) -> None:
        amounts = (self.rotation, self.tilt, self.scale, self.shift, self.hu_shift, self.stretch, self.noise)
        if not (min(amounts) >= 0 and max(self.scale, self.stretch) < 1 and self.flip_axis in (None, 0, 1, 2)):
            raise UsageError(
                "Amounts of augmentation are at least 0, scale and stretch below 1, flip_axis 0, 1, 2 or None; "
                f"found {self}."
            )

    def __call__(self, volume: NDArray[np.float32], rng: np.random.Generator, /) -> NDArray[np.float32]:
        """Change ``(W, H, D)`` float32 in [0, 1] as drawn from ``rng``."""
        moved = affine_linear(volume, *self.draw_place(volume.shape, rng))
        low, high = self.hu_window
        gain = 1 + rng.uniform(-self.stretch, self.stretch)
        brighter = rng.uniform(-self.hu_shift, self.hu_shift) / (high - low)
        sigma = rng.uniform(0, self.noise) / (high - low)
        changed = rng.standard_normal(volume.shape, np.float32)
        changed *= np.float32(sigma)
        moved *= np.float32(gain)
        changed += moved
        changed += np.float32(brighter)
        return np.clip(changed, 0, 1, out=changed)

    def draw_place(
        self, shape: Sequence[int], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Draw the change of place for a volume of this shape.

        Returns
        -------
        matrix, offset
            ``(3, 3)`` and ``(3,)``: voxel ``o`` of the result is taken from ``matrix @ o + offset``.
        """
        angles = np.deg2rad([self.tilt, self.tilt, self.rotation]) * rng.uniform(-1, 1, 3)
        in_plane = 1 / (1 + rng.uniform(-self.scale, self.scale))
        turn = _rotation(angles) * [in_plane, in_plane, 1]
        if self.flip_axis is not None and rng.random() < 0.5:
            turn[self.flip_axis] *= -1
        size = np.array(shape, np.float64)
        matrix = turn * size[:, None] / size
        centre = (size - 1) / 2
        return matrix, centre - matrix @ centre + size * rng.uniform(-self.shift, self.shift, 3)


def left_right_axis(contract: Contract) -> int:
    """Network axis that runs from the patient's left to right, or from right to left.

    With orientation ``"stored"`` only the file knows; axis 0 of the scan is assumed, as scanners' axial series have it.
    """
    code = "LAS" if contract.orientation == "stored" else contract.orientation
    scan_axis = next(axis for axis, letter in enumerate(code) if letter in "LR")
    return Placement().turned(contract.quarter_turns).axes.index(scan_axis)


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rotation about axis 0, then 1, then 2, by radians: ``(3, 3)``."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = (axis + 1) % 3, (axis + 2) % 3
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        result = step @ result
    return result
