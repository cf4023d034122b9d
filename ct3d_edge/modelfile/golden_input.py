"""Inputs of the golden test: integer arithmetic alone, so that every machine and language makes the same bytes.

Two recipes. ``ellipsoids-1`` draws one chest from a seed. ``ellipsoids-2`` draws richer ones and blends two of them:
``(a * (1024 - w) + b * w) // 1024`` in each voxel, so that a weight can be searched at which a network is unsure.
"""

from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

FIRST_RECIPE, RECIPE = "ellipsoids-1", "ellipsoids-2"
"""Names of the recipes; a change to one needs a new name."""

BLEND_STEPS = 1024
"""Voxels are multiples of ``1 / STEPS``, weights of a blend too."""

MAX_SEED = 2**16
"""Seeds are multiplied into 32-bit arithmetic."""

Shape = tuple[int, int, int]

Seed = Annotated[int, Meta(ge=0, le=MAX_SEED)]
Blend = tuple[Seed, Seed, Annotated[int, Meta(ge=0, le=BLEND_STEPS)]]
"""Two seeds, and the weight of the second in 1/1024."""

INTENSITY_WINDOWS = ((1024, 0), (700, 0), (700, 324), (512, 256))
"""Factor (in 1/1024) and offset that make a chest of the second recipe darker or flatter."""


def make_golden_input(recipe: str, blend: Blend, shape: Shape) -> NDArray[np.float32]:
    """One input of a golden test, ``shape`` float32, multiples of 1/1024 in [0, 1]."""
    draw = _make_first_recipe if recipe == FIRST_RECIPE else _make_second_recipe
    one, other, weight = blend
    voxels = draw(one, shape)
    if weight:
        voxels = np.asarray((voxels * (BLEND_STEPS - weight) + draw(other, shape) * weight) // BLEND_STEPS)
    return np.asarray(voxels / BLEND_STEPS, np.float32)


def make_phantom_volume(seed: int, shape: Shape) -> NDArray[np.float32]:
    """Something like a chest: body, two lungs, a spot whose position and density follow the seed, with texture.

    Returns
    -------
    ndarray
        ``shape`` float32, multiples of 1/1024 in [0, 1].
    """
    return make_golden_input(FIRST_RECIPE, (seed, seed, 0), shape)


def _make_first_recipe(seed: int, shape: Shape) -> NDArray[np.int64]:
    soft = 700
    volume = _chest(shape, 750, 100)
    spot = tuple(256 + _hash_number(seed * 3 + n) % 512 for n in range(3))
    volume[_ellipsoid(shape, (spot[0], spot[1], spot[2]), (90, 90, 160))] = soft - seed % 5 * 100
    return np.asarray(np.clip(volume + _texture(seed, shape, 32), 0, BLEND_STEPS), np.int64)


def _make_second_recipe(seed: int, shape: Shape) -> NDArray[np.int64]:
    """Number k of a seed is the hash of ``64 * seed + k``: 0 lung, 1 body, 2 spots, 3 texture, 8 and on the spots."""
    number = [_hash_number(64 * seed + k) for k in range(40)]
    volume = _chest(shape, 700 + number[1] % 100, 60 + number[0] % 150)
    for k in range(8, 8 + 4 * (number[2] % 9), 4):
        x, y, z = (256 + drawn % 512 for drawn in number[k : k + 3])
        radius = 40 + number[k + 3] % 100
        spot = _ellipsoid(shape, (x, y, z), (radius, radius, radius * 3 // 2))
        volume[spot] = 250 + (number[k + 3] >> 8) % 500
    factor, offset = INTENSITY_WINDOWS[seed % len(INTENSITY_WINDOWS)]
    textured = volume + _texture(seed, shape, 4 << number[3] % 5)
    return np.asarray(np.clip(textured * factor // BLEND_STEPS + offset, 0, BLEND_STEPS), np.int64)


def _chest(shape: Shape, body: int, lung: int) -> NDArray[np.int64]:
    volume = np.zeros(shape, np.int64)
    volume[_ellipsoid(shape, (512, 512, 512), (460, 380, 900))] = body
    for side in (320, 704):
        volume[_ellipsoid(shape, (512, side, 512), (270, 150, 480))] = lung
    return volume


def _texture(seed: int, shape: Shape, amplitude: int) -> NDArray[np.int64]:
    index = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    hashed = hash32(index + np.uint32(seed * 7919 + 1))
    return np.asarray((hashed % (2 * amplitude)).astype(np.int64) - amplitude)


def _ellipsoid(shape: Shape, centre: Shape, radii: Shape) -> NDArray[np.bool_]:
    """Voxels inside an ellipsoid, in 1/1024 of each axis; integers only."""
    squares = []
    for axis, (size, middle, radius) in enumerate(zip(shape, centre, radii, strict=True)):
        offset = np.arange(size, dtype=np.int64) * 1024 // size - middle
        along = [1, 1, 1]
        along[axis] = size
        squares.append((offset * offset * 4096 // (radius * radius)).reshape(along))
    return np.asarray(squares[0] + squares[1] + squares[2] <= 4096)


def _hash_number(number: int) -> int:
    return int(hash32(np.array([number]))[0])


def hash32(values: NDArray[Any]) -> NDArray[np.uint32]:
    """A well-mixed 32-bit hash of each value (finaliser of MurmurHash3, A. Appleby, public domain)."""
    mixed = values.astype(np.uint32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    return np.asarray(mixed ^ (mixed >> np.uint32(16)))
