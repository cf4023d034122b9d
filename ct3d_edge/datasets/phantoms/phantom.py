"""Procedural chest CT phantoms: MosMedData's geometry, no patient's data, the same scan for the same seed."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.datasets.phantoms.chest import Chest, build_chest
from ct3d_edge.datasets.phantoms.grid import Grid
from ct3d_edge.datasets.phantoms.lesions import grow_lesions
from ct3d_edge.datasets.phantoms.parenchyma import draw_burden, lung_tissue
from ct3d_edge.datasets.phantoms.render import Scene, render
from ct3d_edge.datasets.phantoms.scanner import draw_scanner
from ct3d_edge.datasets.phantoms.shapes import as_field
from ct3d_edge.datasets.phantoms.trees import Deposit, Tree, deposit, grow, join
from ct3d_edge.errors import UsageError

MATRIX = 512
"""Voxels a side in the plane of a MosMedData scan."""

SLICE_STEP_MM = 8.0
"""MosMedData keeps every tenth slice."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic scan.

    Parameters
    ----------
    hu
        (x, y, z) int16, HU in -1024..3071. The axes grow toward Left, Anterior, Superior (axis code LAS).
    lesions
        (x, y, z) bool, True inside a lesion; all False when normal.
    spacing
        mm as (x, y, z).
    abnormal
        The label.
    """

    hu: NDArray[np.int16]
    lesions: NDArray[np.bool_]
    spacing: tuple[float, float, float]
    abnormal: bool


def make_phantom(seed: int, *, abnormal: bool, shape: tuple[int, int, int] | None = None) -> Phantom:
    """Make one chest.

    Parameters
    ----------
    seed
        Non-negative. Patient, scanner and noise follow from it and are the same with and without disease.
    abnormal
        With ground glass and consolidation over 5 to 60 % of the lungs, or without.
    shape
        Voxels as (x, y, z); None for 512 x 512 x 30..60. Other shapes show the same field of view in
        larger or smaller voxels.

    Raises
    ------
    UsageError
        If `shape` has fewer than 16 voxels a side in the plane or fewer than 4 slices, or `seed` is negative.
    """
    if seed < 0 or (shape is not None and (min(shape[:2]) < 16 or shape[2] < 4)):
        raise UsageError(f"A phantom needs a seed >= 0 and a shape >= (16, 16, 4), found shape {shape}, seed {seed}.")
    scene = build_scene(seed, abnormal=abnormal, shape=shape)
    hu, mask = render(scene, _streams(seed).grain)
    return Phantom(hu.T, mask.T, scene.grid.spacing, abnormal)


class _Streams(NamedTuple):
    """Independent generators: drawing one thing more of one kind leaves all other kinds as they were."""

    plan: np.random.Generator
    body: np.random.Generator
    tissue: np.random.Generator
    disease: np.random.Generator
    branching: np.random.Generator
    machine: np.random.Generator
    grain: np.random.Generator


def _streams(seed: int) -> _Streams:
    children = np.random.SeedSequence(seed).spawn(len(_Streams._fields))
    return _Streams(*map(np.random.default_rng, children))


def build_scene(seed: int, *, abnormal: bool, shape: tuple[int, int, int] | None = None) -> Scene:
    """Build what `make_phantom` renders: the shapes and attenuations, without noise."""
    draw = _streams(seed)
    chest = build_chest(_draw_grid(draw.plan, shape), draw.body)
    burden = draw_burden(draw.disease)
    extra_hu = burden.extra_hu * draw.tissue.uniform(0.8, 1.3)
    lung_hu = lung_tissue(chest, draw.tissue, 0.0 if abnormal else extra_hu)
    presence = None
    if abnormal:
        lesions = grow_lesions(chest, draw.disease, burden)
        lung_hu, presence = lesions.painted_on(lung_hu), lesions.presence
    scanner = draw_scanner(draw.machine, chest.grid)
    vessels, bronchi = _branches(chest, draw.branching, scanner.slice_mm)
    return Scene(chest, scanner, lung_hu, presence, vessels, bronchi)


def _draw_grid(rng: np.random.Generator, shape: tuple[int, int, int] | None) -> Grid:
    side, slices = rng.uniform(0.70, 0.80) * MATRIX, int(rng.integers(30, 61))
    nx, ny, nz = shape or (MATRIX, MATRIX, slices)
    # NIfTI keeps float32: round here, so that what is saved is what was made.
    sx, sy, sz = (float(np.float32(s)) for s in (side / nx, side / ny, slices * SLICE_STEP_MM / nz))
    return Grid((nx, ny, nz), (sx, sy, sz))


def _branches(chest: Chest, rng: np.random.Generator, slice_mm: float) -> tuple[Deposit, tuple[Deposit, Deposit]]:
    """Vessels, and bronchi with and without their walls."""
    grid = chest.grid
    # In large voxels the thinnest vessels cannot be seen; with fewer and wider tips the trunk stays as wide.
    share = min(1.0, max(0.25, 1.5 / grid.spacing[0]))
    tips, caliber = int(rng.integers(900, 1700) * share), rng.uniform(0.5, 0.64) / np.cbrt(share)
    vessels, bronchi = [], []
    for hilum, side in zip(chest.middle.hila, (-1, 1), strict=True):
        region = as_field((chest.lung > 4) & (grid.x * side > 0))
        deep = as_field(region * (chest.lung > 14) + 1e-6 * region)
        vessels.append(grow(rng, grid, region, hilum, tips=tips, tip_radius=caliber))
        bronchi.append(grow(rng, grid, deep, hilum, tips=45, tip_radius=1.15))
    outer: Tree = join(bronchi)
    lumen = replace(outer, radius=as_field(0.72 * outer.radius))
    return deposit(join(vessels), grid, slice_mm), (
        deposit(outer, grid, slice_mm),
        deposit(lumen, grid, slice_mm),
    )
