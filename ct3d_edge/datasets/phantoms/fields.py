"""Distance fields of a phantom: mm to a surface, positive inside; shapes combine by minimum and maximum.

Anatomy is smooth, so it is computed on a coarse in-plane grid (at most `COARSE` samples a side) and enlarged slice by
slice. Edges stay sharp because what is enlarged is the distance to a surface, not the picture of it. Distances are
measured along the ray to the shape's centre: exact on the surface, close to it everywhere else that matters here. The
rounded unions are Quilez' polynomial smooth minimum (https://iquilezles.org/articles/smin).

Frame: x grows toward patient Left, y toward Anterior, z toward Superior. x = y = 0 in the middle of the field of view,
z = 0 under the lowest slice. Arrays inside this package are (z, y, x) in C order, which is NIfTI's (x, y, z) on disk.
"""

from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Taps = tuple[NDArray[np.intp], NDArray[np.intp], Field]

COARSE = 128
"""3 mm in a field of view of 384 mm: finer than any surface bends here."""


@dataclass(frozen=True)
class Grid:
    """Sampling of one phantom, as (x, y, z)."""

    shape: tuple[int, int, int]  # voxels
    spacing: tuple[float, float, float]  # mm

    @property
    def extent(self) -> tuple[float, float, float]:
        """Field of view in mm as (x, y, z)."""
        nx, ny, nz = self.shape
        sx, sy, sz = self.spacing
        return nx * sx, ny * sy, nz * sz

    @property
    def coarse(self) -> tuple[int, int, int]:
        """Shape of a coarse field as (z, y, x)."""
        nx, ny, nz = self.shape
        return nz, min(ny, COARSE), min(nx, COARSE)

    @cached_property
    def x(self) -> Field:
        """Coarse x in mm, shape (1, 1, x)."""
        return centred(self.coarse[2], self.extent[0])[None, None, :]

    @cached_property
    def y(self) -> Field:
        """Coarse y in mm, shape (1, y, 1)."""
        return centred(self.coarse[1], self.extent[1])[None, :, None]

    @cached_property
    def z(self) -> Field:
        """Slice heights in mm, shape (z, 1, 1)."""
        middles = (np.arange(self.shape[2]) + 0.5) * self.spacing[2]
        return middles.astype(np.float32)[:, None, None]

    @cached_property
    def _taps(self) -> tuple[Taps, Taps]:
        nx, ny, _ = self.shape
        _, cy, cx = self.coarse
        return half_pixel_taps(cx, nx), half_pixel_taps(cy, ny)

    def enlarge(self, plane: Field) -> Field:
        """Interpolate one coarse plane (y, x) linearly to the full in-plane shape; always a new array."""
        nx, ny, _ = self.shape
        if plane.shape == (ny, nx):
            return plane.copy()
        along_x, along_y = self._taps
        # Whole rows are taken in both passes, so the small intermediate is transposed instead of the result.
        wide = two_tap(np.ascontiguousarray(plane.T), along_x, axis=0)
        return two_tap(np.ascontiguousarray(wide.T), along_y, axis=0)


def centred(samples: int, extent: float) -> Field:
    """Centres of `samples` cells that fill `extent` around 0, shape (samples,)."""
    return ((np.arange(samples) + 0.5) * (extent / samples) - extent / 2).astype(np.float32)


def half_pixel_taps(have: int, want: int) -> Taps:
    """Neighbours and weights that resample `have` cells to `want` cells over the same extent."""
    position = np.clip((np.arange(want) + 0.5) * (have / want) - 0.5, 0, have - 1)
    low = np.minimum(position.astype(np.intp), max(have - 2, 0))
    high = np.minimum(low + 1, have - 1)
    return low, high, (position - low).astype(np.float32)


def two_tap(field: Field, taps: Taps, axis: int) -> Field:
    """Interpolate `field` linearly along `axis`."""
    low, high, weight = taps
    first, rise = np.take(field, low, axis=axis), np.take(field, high, axis=axis)
    rise -= first  # in place, as this takes most of the time
    rise *= weight.reshape([-1 if a == axis else 1 for a in range(field.ndim)])
    first += rise
    return first


def value_noise(rng: np.random.Generator, grid: Grid, size: float) -> Field:
    """Draw a smooth random coarse field with lumps of `size` mm, mean 0, standard deviation about 1.

    Value noise: independent normal numbers on a lattice of `size` mm, blended with a cubic ease. It costs a
    fraction of filtering white noise, whatever the size of the lumps.
    """
    extents = grid.extent[::-1]
    cells = [max(2, int(np.ceil(extent / size)) + 1) for extent in extents]
    field = rng.standard_normal(cells, dtype=np.float32)
    for axis, (samples, extent) in enumerate(zip(grid.coarse, extents, strict=True)):
        field = two_tap(field, _eased_taps(cells[axis], samples, extent / size), axis)
    # Between lattice points the blend of eight numbers varies less than each of them.
    return field * np.float32(1.5)


def _eased_taps(cells: int, samples: int, span: float) -> Taps:
    position = np.minimum((np.arange(samples) + 0.5) * (span / samples), cells - 1)
    low = np.minimum(position.astype(np.intp), cells - 2)
    t = position - low
    return low, low + 1, (t * t * (3 - 2 * t)).astype(np.float32)


Number = float | Field
Point = tuple[float, float, float]
Coordinates = tuple[Field, Field, Field]
"""x, y, z in mm of every voxel, shapes that broadcast to (z, y, x)."""


def oval(x: Field, y: Field, half_width: Number, half_depth: Number, *, power: float = 2.0) -> Field:
    """Superellipse |x/a|^p + |y/b|^p = 1 in the plane.

    Parameters
    ----------
    x, y
        mm from its centre.
    half_width, half_depth
        a and b in mm.
    power
        2 is an ellipse, more is boxier.
    """
    a, b = np.maximum(half_width, 1.0), np.maximum(half_depth, 1.0)
    if power == 2.0:
        rho = np.sqrt(np.square(x / a) + np.square(y / b))
    else:
        rho = (np.abs(x / a) ** power + np.abs(y / b) ** power) ** (1 / power)
    return _along_ray(np.sqrt(x * x + y * y), rho, np.minimum(a, b))


def ellipsoid(xyz: Coordinates, radii: Point) -> Field:
    """Ellipsoid with half axes `radii` in mm; `xyz` is measured from its centre."""
    (x, y, z), (a, b, c) = xyz, radii
    rho = np.sqrt(np.square(x / a) + np.square(y / b) + np.square(z / c))
    return _along_ray(np.sqrt(x * x + y * y + z * z), rho, min(radii))


def capsule(xyz: Coordinates, start: Point, end: Point, radius: float) -> Field:
    """Round-ended tube of `radius` mm from `start` to `end` (x, y, z in mm)."""
    px, py, pz = (p - s for p, s in zip(xyz, start, strict=True))
    dx, dy, dz = (e - s for s, e in zip(start, end, strict=True))
    along = (px * dx + py * dy + pz * dz) / max(dx * dx + dy * dy + dz * dz, 1e-6)
    t = np.clip(along, 0, 1)
    distance = np.sqrt(np.square(px - t * dx) + np.square(py - t * dy) + np.square(pz - t * dz))
    return as_field(radius - distance)


def union(*shapes: Field) -> Field:
    """Largest of the distances: inside of any of the shapes."""
    return reduce(np.maximum, shapes)


def rounded_max(first: Field, second: Field, radius: float) -> Field:
    """Union of two shapes whose inner corner is filled with a fillet of about `radius` mm."""
    blend = np.maximum(radius - np.abs(first - second), 0)
    return as_field(np.maximum(first, second) + blend * blend / (4 * radius))


def rounded_min(first: Field, second: Field, radius: float) -> Field:
    """Intersection of two shapes whose edge is rounded to about `radius` mm."""
    return -rounded_max(-first, -second, radius)


def profile(at: Field, knots: tuple[tuple[float, float], ...]) -> Field:
    """Piecewise linear curve through (position, value) `knots`, constant beyond its ends."""
    positions, values = zip(*knots, strict=True)
    return as_field(np.interp(at, positions, values))


def as_field(values: ArrayLike) -> Field:
    """Convert `values` to float32: NumPy widens in points, and a field must stay small."""
    return np.asarray(values, dtype=np.float32)


def _along_ray(radius: Field, rho: Field, at_centre: Number) -> Field:
    # radius / rho is where the ray leaves the shape; at the very centre it is 0 / 0.
    depth = radius / np.maximum(rho, 1e-6) - radius
    return as_field(np.where(rho < 1e-3, at_centre, depth))
