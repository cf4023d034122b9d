"""The golden test: a seeded input recipe and the answer the network gave where it was exported.

A device proves itself offline with it. The input is built from integer arithmetic alone (ellipsoids, hashed
texture), so it has the same bytes on every machine, whatever the versions of NumPy or the processor.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import refuse_constant
from ct3d_edge.errors import ModelError

RECIPE = "ellipsoids-1"
"""Name of the recipe that ``golden_volume`` follows; a change to it needs a new name."""

STEPS = 1024
"""Voxels of that recipe are multiples of ``1 / STEPS``."""

LARGEST_SEED = 2**16
"""Seeds are multiplied into 32-bit arithmetic."""


@dataclass(frozen=True)
class Golden:
    """Expected answers of a model to known inputs.

    Parameters
    ----------
    recipe
        How inputs are made.
    seeds
        One input each.
    expected
        Probabilities ``(input, class)``.
    tolerance
        Largest difference of a probability that passes.
    """

    recipe: str
    seeds: tuple[int, ...]
    expected: tuple[tuple[float, ...], ...]
    tolerance: float

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, *, classes: int) -> Self:
        """Parse what ``to_json`` wrote for a model with so many classes.

        Raises
        ------
        ModelError
            If it is not a golden test, or one whose recipe this version does not know.
        """
        try:
            data: dict[str, Any] = json.loads(text, parse_constant=refuse_constant)
            values = {field.name: data[field.name] for field in fields(cls)}
            values["seeds"] = tuple(int(seed) for seed in values["seeds"])
            values["expected"] = tuple(tuple(map(float, row)) for row in values["expected"])
            values["tolerance"] = float(values["tolerance"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ModelError(f"The golden test inside the model file is damaged ({error!r}).") from error
        golden = cls(**values)
        if not golden._is_sound(classes):
            raise ModelError(
                f"The golden test inside the model file cannot be run: recipe {golden.recipe!r} (this ct3d-edge knows "
                f"{RECIPE!r}), {len(golden.seeds)} inputs, {len(golden.expected)} answers for {classes} classes, "
                f"tolerance {golden.tolerance}."
            )
        return golden

    def _is_sound(self, classes: int) -> bool:
        return (
            self.recipe == RECIPE
            and len(self.seeds) == len(self.expected) > 0
            and all(0 <= seed <= LARGEST_SEED for seed in self.seeds)
            and all(len(row) == classes for row in self.expected)
            and 0 <= self.tolerance <= 1
        )

    def volumes(self, shape: tuple[int, int, int]) -> list[NDArray[np.float32]]:
        """The inputs, each ``shape`` float32 in [0, 1]."""
        return [golden_volume(seed, shape) for seed in self.seeds]


def golden_volume(seed: int, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Something like a chest: body, two lungs, a spot whose place and density follow the seed, textured.

    Returns
    -------
    ndarray
        ``shape`` float32, multiples of 1/1024 in [0, 1].
    """
    body, lung, soft = 750, 100, 700
    volume = np.zeros(shape, np.int64)
    volume[_ellipsoid(shape, (512, 512, 512), (460, 380, 900))] = body
    for side in (320, 704):
        volume[_ellipsoid(shape, (512, side, 512), (270, 150, 480))] = lung
    spot = tuple(256 + (_hash(np.array([seed * 3 + n])) % 512).item() for n in range(3))
    volume[_ellipsoid(shape, (spot[0], spot[1], spot[2]), (90, 90, 160))] = soft - seed % 5 * 100
    index = np.arange(volume.size, dtype=np.uint32).reshape(shape)
    texture = (_hash(index + np.uint32(seed * 7919 + 1)) % 64).astype(np.int64) - 32
    return np.asarray(np.clip(volume + texture, 0, STEPS) / STEPS, np.float32)


def _ellipsoid(
    shape: tuple[int, int, int], centre: tuple[int, int, int], radii: tuple[int, int, int]
) -> NDArray[np.bool_]:
    """Voxels inside an ellipsoid, in 1/1024 of each axis; integers only."""
    squares = []
    for axis, (size, middle, radius) in enumerate(zip(shape, centre, radii, strict=True)):
        offset = np.arange(size, dtype=np.int64) * 1024 // size - middle
        along = [1, 1, 1]
        along[axis] = size
        squares.append((offset * offset * 4096 // (radius * radius)).reshape(along))
    return np.asarray(squares[0] + squares[1] + squares[2] <= 4096)


def _hash(values: NDArray[Any]) -> NDArray[np.uint32]:
    """A well-mixed 32-bit hash of each value (finaliser of MurmurHash3, A. Appleby, public domain)."""
    mixed = values.astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    return np.asarray(mixed ^ (mixed >> np.uint32(16)))
