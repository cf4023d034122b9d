"""From distance fields to slices, and what the scanner adds: thickness, kernel, noise, streaks, padding."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ct3d_edge.datasets.phantoms.chest import Chest
from ct3d_edge.datasets.phantoms.fields import Field, Grid, Mask, as_field, centred
from ct3d_edge.datasets.phantoms.trees import PartialVolume

AIR_HU = -1000.0
PADDING_HU = -1024.0
TABLE_MM = (215.0, 42.0)
"""Half width and thickness."""


@dataclass(frozen=True)
class Scanner:
    """Properties of one scanner."""

    slice_mm: float  # thickness of what a slice averages, no more than the step between slices
    noise_hu: float  # standard deviation deep in the body
    smoothing: float  # weight of a neighbour in the noise: below 0 for a sharp kernel
    edge_mm: float
    streaks: float  # noise along rows relative to the rest, where the shoulders absorb the beam
    pads: bool  # whether `PADDING_HU` stands outside the circular field of view
    table_gap: float  # mm of mattress under the back
    table_bend: float  # mm by which the table's edges are higher than its middle


def draw_scanner(rng: np.random.Generator, grid: Grid) -> Scanner:
    """Draw the properties, independent of patient and class."""
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


def draw_background(scanner: Scanner, grid: Grid, back: float) -> Field:
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
    depth = np.clip(body * np.float32(1 / 110), 0, 0.75) + np.float32(0.25)
    return as_field(grain * (depth * np.float32(scanner.noise_hu)))


def _mix_neighbours(grain: Field, weight: np.float32, axis: int) -> Field:
    near = weight * grain
    if axis == 0:
        grain[1:] += near[:-1]
        grain[:-1] += near[1:]
    else:
        grain[:, 1:] += near[:, :-1]
        grain[:, :-1] += near[:, 1:]
    return grain


FAT_HU = -105.0
INNER_FAT_HU = -90.0
SKIN_HU = 20.0
CORTEX_HU = 560.0
GAS_HU = -960.0
WALL_HU = -60.0  # bronchial wall, thinner than a voxel
HU_RANGE = (-1024, 3071)


@dataclass(frozen=True)
class Scene:
    """All that is needed to draw any slice."""

    chest: Chest
    scanner: Scanner
    lung_hu: Field  # lesions included
    presence: Field | None  # of lesions
    vessels: PartialVolume
    bronchi: tuple[PartialVolume, PartialVolume]  # with their walls, without

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""
        return self.chest.grid


def render(scene: Scene, rng: np.random.Generator) -> tuple[NDArray[np.int16], Mask]:
    """Draw HU and lesion mask, both (z, y, x)."""
    nx, ny, nz = scene.grid.shape
    hu, mask = np.empty((nz, ny, nx), dtype=np.int16), np.zeros((nz, ny, nx), dtype=np.bool_)
    behind = draw_background(scene.scanner, scene.grid, 12 - scene.chest.patient.half_depth)
    outside = padding(scene.scanner, scene.grid)
    for index in range(nz):
        canvas = behind.copy()
        lung = _paint_slice(canvas, scene, index, rng)
        if outside is not None:
            canvas[outside] = PADDING_HU
        hu[index] = np.clip(np.rint(canvas, out=canvas), *HU_RANGE, out=canvas)
        if lung is not None and scene.presence is not None:
            mask[index] = (scene.grid.enlarge(scene.presence[index]) > 0.5) & (lung > 0)
    return hu, mask


def paint(canvas: Field, hu: float | Field, depth: Field, edge_mm: float) -> None:
    """Paint `hu` where `depth` (mm inside the shape) is positive, with an edge `edge_mm` wide; in place."""
    cover = depth * np.float32(1 / edge_mm)
    cover += np.float32(0.5)
    np.clip(cover, 0, 1, out=cover)
    cover *= hu - canvas
    canvas += cover


def _paint_slice(canvas: Field, scene: Scene, index: int, rng: np.random.Generator) -> Field | None:
    """Draw slice `index` on `canvas`; return the lung's distance field there, None where there is no lung."""
    body = scene.grid.enlarge(scene.chest.wall.body[index])
    _paint_wall(canvas, scene, index, body)
    _paint_organs(canvas, scene, index)
    _paint_bone(canvas, scene, index)
    lung = _paint_lung(canvas, scene, index)
    _paint_airway(canvas, scene, index)
    canvas += noise(scene.scanner, rng, body, _streaks(scene, index))
    return lung


def _streaks(scene: Scene, index: int) -> float:
    height = float(scene.chest.patient.height[index, 0, 0])
    return scene.scanner.streaks * min(max(4 * height - 3, 0.0), 1.0)


def _paint_wall(canvas: Field, scene: Scene, index: int, body: Field) -> None:
    edge, grid = scene.scanner.edge_mm, scene.grid
    paint(canvas, SKIN_HU, body, edge)
    paint(canvas, FAT_HU, body - 1.8, edge)
    paint(canvas, grid.enlarge(scene.chest.muscle_hu[index]), grid.enlarge(scene.chest.wall.muscle[index]), edge)
    paint(canvas, INNER_FAT_HU, grid.enlarge(scene.chest.wall.cavity[index]) - 1.5, edge)


def _paint_organs(canvas: Field, scene: Scene, index: int) -> None:
    edge, chest, grid = scene.scanner.edge_mm, scene.chest, scene.grid
    if _present(chest.organ[index], edge):
        paint(canvas, grid.enlarge(chest.organ_hu[index]), grid.enlarge(chest.organ[index]), edge)
    if _present(chest.gas[index], edge):
        paint(canvas, GAS_HU, grid.enlarge(chest.gas[index]), edge)


def _paint_bone(canvas: Field, scene: Scene, index: int) -> None:
    depth = scene.grid.enlarge(scene.chest.wall.bone[index])
    marrow = np.clip(depth * np.float32(0.5), 0, 1) * np.float32(scene.chest.patient.bone_hu - CORTEX_HU)
    marrow += np.float32(CORTEX_HU)
    paint(canvas, marrow, depth, scene.scanner.edge_mm)


def _paint_lung(canvas: Field, scene: Scene, index: int) -> Field | None:
    if not _present(scene.chest.lung[index], scene.scanner.edge_mm):
        return None
    lung = scene.grid.enlarge(scene.chest.lung[index])
    paint(canvas, scene.grid.enlarge(scene.lung_hu[index]), lung, scene.scanner.edge_mm)
    _fill(canvas, scene.bronchi[0].occupancy(index), WALL_HU)
    _fill(canvas, scene.bronchi[1].occupancy(index), GAS_HU)
    _fill(canvas, scene.vessels.occupancy(index), scene.chest.patient.blood_hu)
    return lung


def _paint_airway(canvas: Field, scene: Scene, index: int) -> None:
    edge, lumen = scene.scanner.edge_mm, scene.chest.mediastinum.lumen[index]
    if _present(lumen, edge):
        depth = scene.grid.enlarge(lumen)
        paint(canvas, SKIN_HU, depth, edge)
        paint(canvas, GAS_HU, depth - 1.5, edge)


def _present(depth: Field, edge_mm: float) -> bool:
    return float(depth.max()) > -edge_mm / 2


def _fill(canvas: Field, occupancy: Field | None, hu: float) -> None:
    if occupancy is not None:
        canvas += occupancy * (np.float32(hu) - canvas)
