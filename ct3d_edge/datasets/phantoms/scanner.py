"""What the scanner adds: slice thickness, kernel, noise, streaks, padding of its field of view, the table."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ct3d_edge.datasets.phantoms.grid import Field, Grid, Mask, centred
from ct3d_edge.datasets.phantoms.shapes import as_field

AIR_HU = -1000.0
PADDING_HU = -1024.0
TABLE_MM = (215.0, 42.0)
"""Half width and thickness."""


@dataclass(frozen=True)
class Scanner:
    """One scanner's habits.

    Parameters
    ----------
    slice_mm
        Thickness of what a slice averages, no more than the step between slices.
    noise_hu
        Standard deviation deep in the body.
    smoothing
        Weight of a neighbour in the noise: below 0 for a sharp kernel.
    edge_mm
        Width of an edge.
    streaks
        Noise along rows relative to the rest, where the shoulders swallow the beam.
    pads
        Whether `PADDING_HU` stands outside the circular field of view.
    table_gap, table_bend
        mm of mattress under the back; mm by which the table's edges are higher than its middle.
    """

    slice_mm: float
    noise_hu: float
    smoothing: float
    edge_mm: float
    streaks: float
    pads: bool
    table_gap: float
    table_bend: float


def draw_scanner(rng: np.random.Generator, grid: Grid) -> Scanner:
    """Draw habits, independent of patient and class."""
    return Scanner(
        slice_mm=min(rng.uniform(2.0, 5.0), grid.spacing[2]),
        noise_hu=rng.uniform(12, 48),
        smoothing=rng.uniform(-0.12, 0.45),
        edge_mm=max(rng.uniform(0.9, 1.8), 0.9 * grid.spacing[0]),
        streaks=rng.uniform(0.0, 1.2),
        pads=bool(rng.random() < 0.55),
        table_gap=rng.uniform(12, 24),
        table_bend=rng.uniform(15, 45),
    )


def backdrop(scanner: Scanner, grid: Grid, back: float) -> Field:
    """Draw air and table behind every slice, (y, x) in HU; `back` is the patient's back in mm."""
    nx, ny, _ = grid.shape
    half_width, thickness = TABLE_MM
    x, y = centred(nx, grid.extent[0])[None, :], centred(ny, grid.extent[1])[:, None]
    depth = back - scanner.table_gap - y + scanner.table_bend * np.square(x / 200)
    shell = _cover(1.6 - np.abs(depth), scanner) + _cover(1.6 - np.abs(depth - thickness), scanner)
    foam = _cover(np.minimum(depth, thickness - depth), scanner)
    return as_field(AIR_HU + (np.abs(x) < half_width) * (45 * foam + 780 * shell))


def _cover(depth: ArrayLike, scanner: Scanner) -> Field:
    return as_field(np.clip(as_field(depth) / scanner.edge_mm + 0.5, 0, 1))


def padding(scanner: Scanner, grid: Grid) -> Mask | None:
    """Where the scanner pads, (y, x); None when it does not."""
    if not scanner.pads:
        return None
    nx, ny, _ = grid.shape
    x, y = centred(nx, 2.0)[None, :], centred(ny, 2.0)[:, None]
    return x * x + y * y > 1.0


def noise(scanner: Scanner, rng: np.random.Generator, body: Field, streaks: float) -> Field:
    """Draw one slice's correlated noise in HU, (y, x): stronger deep in the body, where fewer photons pass.

    Parameters
    ----------
    body
        mm below the skin, negative outside, (y, x).
    streaks
        Noise that is constant along rows, relative to the rest.
    """
    grain = rng.standard_normal(body.shape, dtype=np.float32)
    for axis in (0, 1):
        grain = _mix_neighbours(grain, np.float32(scanner.smoothing), axis)
    grain *= np.float32(1 / (1 + 2 * scanner.smoothing**2))  # each pass multiplies the variance by 1 + 2 w^2
    if streaks > 0:
        grain += np.float32(streaks) * rng.standard_normal((len(body), 1), dtype=np.float32)
    depth = np.clip(body * np.float32(1 / 110), 0, 0.75)
    depth += np.float32(0.25)
    depth *= np.float32(scanner.noise_hu)
    grain *= depth
    return grain


def _mix_neighbours(grain: Field, weight: np.float32, axis: int) -> Field:
    near = weight * grain
    if axis == 0:
        grain[1:] += near[:-1]
        grain[:-1] += near[1:]
    else:
        grain[:, 1:] += near[:, :-1]
        grain[:, :-1] += near[:, 1:]
    return grain
