"""From distance fields to a picture: one slice at a time, each tissue painted over those below it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.datasets.phantoms.chest import Chest
from ct3d_edge.datasets.phantoms.grid import Field, Grid, Mask
from ct3d_edge.datasets.phantoms.scanner import PADDING_HU, Scanner, backdrop, noise, padding
from ct3d_edge.datasets.phantoms.trees import Deposit

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
    vessels: Deposit
    bronchi: tuple[Deposit, Deposit]  # with their walls, without

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""
        return self.chest.grid


def render(scene: Scene, rng: np.random.Generator) -> tuple[NDArray[np.int16], Mask]:
    """Draw HU and lesion mask, both (z, y, x)."""
    nx, ny, nz = scene.grid.shape
    hu, mask = np.empty((nz, ny, nx), dtype=np.int16), np.zeros((nz, ny, nx), dtype=np.bool_)
    behind = backdrop(scene.scanner, scene.grid, 12 - scene.chest.patient.half_depth)
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
    marrow = np.clip(depth * np.float32(0.5), 0, 1)
    marrow *= np.float32(scene.chest.patient.bone_hu - CORTEX_HU)
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
    edge, lumen = scene.scanner.edge_mm, scene.chest.middle.lumen[index]
    if _present(lumen, edge):
        depth = scene.grid.enlarge(lumen)
        paint(canvas, SKIN_HU, depth, edge)
        paint(canvas, GAS_HU, depth - 1.5, edge)


def _present(depth: Field, edge_mm: float) -> bool:
    return float(depth.max()) > -edge_mm / 2


def _fill(canvas: Field, occupancy: Field | None, hu: float) -> None:
    if occupancy is not None:
        occupancy *= np.float32(hu) - canvas
        canvas += occupancy
