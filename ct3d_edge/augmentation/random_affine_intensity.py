"""The default augmentation: small random changes such as those between two scans of one chest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.augmentation.resample import resample
from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.scan.volume import AxisMapping


@dataclass(frozen=True)
class RandomAffineIntensity:
    """A small affine transform, perhaps a left-right flip, and a change of brightness, contrast and noise.

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
        Degrees by which planes lean along each of their two axes, as those of a tilted gantry do: columns of voxels
        are moved along themselves.
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
        sensible = all(0 <= amount < np.inf for amount in amounts) and max(self.scale, self.stretch) < 1
        if not sensible or self.flip_axis not in (None, 0, 1, 2):
            raise UsageError(
                "Amounts of augmentation are at least 0, scale and stretch below 1, flip_axis 0, 1, 2 or None; "
                f"found {self}."
            )

    def __call__(self, volume: NDArray[np.float32], rng: np.random.Generator, /) -> NDArray[np.float32]:
        """Change ``(W, H, D)`` float32 in [0, 1] as drawn from ``rng``."""
        matrix, offset = self._draw_affine(volume.shape, rng)
        mirrored = rng.random() < 0.5
        if mirrored and self.flip_axis is not None:
            volume = np.flip(volume, self.flip_axis)
        return self._change_values(resample(volume, matrix, offset), rng)

    def _draw_affine(
        self, shape: Sequence[int], rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Draw the arguments of `resample` for a volume of this shape."""
        angle = np.deg2rad(rng.uniform(-self.rotation, self.rotation))
        slope = np.tan(np.deg2rad(rng.uniform(-self.tilt, self.tilt, 2)))
        scale = 1 + rng.uniform(-self.scale, self.scale)
        cosine, sine = np.cos(angle) / scale, np.sin(angle) / scale
        size = np.array(shape, np.float64)
        matrix = np.array([[cosine, -sine], [sine, cosine], slope]) * size[:, None] / size[:2]
        centre = (size - 1) / 2
        offset = centre - matrix @ centre[:2] + size * rng.uniform(-self.shift, self.shift, 3)
        return matrix, offset - [0, 0, centre[2]]

    def _change_values(self, values: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """Contrast, brightness and noise, in place."""
        low, high = self.hu_window
        values *= np.float32(1 + rng.uniform(-self.stretch, self.stretch))
        values += np.float32(rng.uniform(-self.hu_shift, self.hu_shift) / (high - low))
        sigma = np.float32(rng.uniform(0, self.noise) / (high - low))
        noise = rng.standard_normal(values.shape, np.float32)
        noise *= sigma
        values += noise
        return np.clip(values, 0, 1, out=values)


def left_right_axis(contract: Contract) -> int:
    """Network axis that runs from the patient's left to right, or from right to left.

    With orientation ``"stored"`` only the file knows; axis 0 of the scan is assumed, as scanners' axial series have it.
    """
    code = "LAS" if contract.orientation == "stored" else contract.orientation
    scan_axis = next(axis for axis, letter in enumerate(code) if letter in "LR")
    return AxisMapping().rotated(contract.quarter_turns).axes.index(scan_axis)
