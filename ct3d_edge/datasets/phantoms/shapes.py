"""Shapes as distance fields: mm to the surface, positive inside; they combine by minimum and maximum.

Distances are measured along the ray to the shape's centre: exact on the surface, close to it everywhere else
that matters here. The rounded unions are Quilez' polynomial smooth minimum (https://iquilezles.org/articles/smin).
"""

import numpy as np
from numpy.typing import ArrayLike

from ct3d_edge.datasets.phantoms.grid import Field

Number = float | Field
Point = tuple[float, float, float]
Place = tuple[Field, Field, Field]
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


def ellipsoid(place: Place, radii: Point) -> Field:
    """Ellipsoid with half axes `radii` in mm; `place` is measured from its centre."""
    (x, y, z), (a, b, c) = place, radii
    rho = np.sqrt(np.square(x / a) + np.square(y / b) + np.square(z / c))
    return _along_ray(np.sqrt(x * x + y * y + z * z), rho, min(radii))


def capsule(place: Place, start: Point, end: Point, radius: float) -> Field:
    """Round-ended tube of `radius` mm from `start` to `end` (x, y, z in mm)."""
    px, py, pz = (p - s for p, s in zip(place, start, strict=True))
    dx, dy, dz = (e - s for s, e in zip(start, end, strict=True))
    along = (px * dx + py * dy + pz * dz) / max(dx * dx + dy * dy + dz * dz, 1e-6)
    t = np.clip(along, 0, 1)
    distance = np.sqrt(np.square(px - t * dx) + np.square(py - t * dy) + np.square(pz - t * dz))
    return as_field(radius - distance)


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
    """Convert `values` to float32: NumPy widens in places, and a field must stay small."""
    return np.asarray(values, dtype=np.float32)


def _along_ray(radius: Field, rho: Field, at_centre: Number) -> Field:
    # radius / rho is where the ray leaves the shape; at the very centre it is 0 / 0.
    depth = radius / np.maximum(rho, 1e-6) - radius
    return as_field(np.where(rho < 1e-3, at_centre, depth))
