"""Procedural chest CT phantoms, one or a folder: MosMedData's geometry and no patient's data; same seed, same scan."""

import gzip
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ct3d_edge.datasets.phantoms.chest import Chest, build_chest
from ct3d_edge.datasets.phantoms.fields import Grid, as_field
from ct3d_edge.datasets.phantoms.lungs import draw_burden, draw_lesions, draw_lung_tissue
from ct3d_edge.datasets.phantoms.scanner import Scene, draw_scanner, render
from ct3d_edge.datasets.phantoms.trees import PartialVolume, grow_tree, join_trees, rasterise
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.system.atomic_write import atomic_file, make_folder
from ct3d_edge.system.machine import count_usable_cores, read_available_memory
from ct3d_edge.system.process_pool import map_in_processes

MATRIX = 512
"""Voxels a side in the plane of a MosMedData scan."""

SLICE_STEP_MM = 8.0
"""MosMedData keeps every tenth slice."""

GZIP_LEVEL = 1
"""Noise does not compress; higher levels cost seconds and save little."""

BYTES_A_VOXEL = 12
"""What making a phantom takes at its peak, measured at 512 x 512 x 60: 222 MB for 16 million voxels."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """One synthetic scan.

    Parameters
    ----------
    hu
        (x, y, z) int16, HU in -1024..3071. The axes grow_tree toward Left, Anterior, Superior (axis code LAS).
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
    lung_hu = draw_lung_tissue(chest, draw.tissue, 0.0 if abnormal else extra_hu)
    presence = None
    if abnormal:
        lesions = draw_lesions(chest, draw.disease, burden)
        lung_hu, presence = lesions.painted_on(lung_hu), lesions.presence
    scanner = draw_scanner(draw.machine, chest.grid)
    vessels, bronchi = _grow_branches(chest, draw.branching, scanner.slice_mm)
    return Scene(chest, scanner, lung_hu, presence, vessels, bronchi)


def _draw_grid(rng: np.random.Generator, shape: tuple[int, int, int] | None) -> Grid:
    side, slices = rng.uniform(0.70, 0.80) * MATRIX, int(rng.integers(30, 61))
    nx, ny, nz = shape or (MATRIX, MATRIX, slices)
    # NIfTI keeps float32: round here, so that what is saved is what was made.
    sx, sy, sz = (float(np.float32(s)) for s in (side / nx, side / ny, slices * SLICE_STEP_MM / nz))
    return Grid((nx, ny, nz), (sx, sy, sz))


def _grow_branches(
    chest: Chest, rng: np.random.Generator, slice_mm: float
) -> tuple[PartialVolume, tuple[PartialVolume, PartialVolume]]:
    """Vessels, and bronchi with and without their walls."""
    grid = chest.grid
    # In large voxels the thinnest vessels cannot be seen; with fewer and wider tips the trunk stays as wide.
    share = min(1.0, max(0.25, 1.5 / grid.spacing[0]))
    tips, caliber = int(rng.integers(900, 1700) * share), rng.uniform(0.5, 0.64) / np.cbrt(share)
    vessels, bronchi = [], []
    for hilum, side in zip(chest.mediastinum.hila, (-1, 1), strict=True):
        region = as_field((chest.lung > 4) & (grid.x * side > 0))
        deep = as_field(region * (chest.lung > 14) + 1e-6 * region)
        vessels.append(grow_tree(rng, grid, region, hilum, tips=tips, tip_radius=caliber))
        bronchi.append(grow_tree(rng, grid, deep, hilum, tips=45, tip_radius=1.15))
    outer = join_trees(bronchi)
    lumen = replace(outer, radius=as_field(0.72 * outer.radius))
    walls, inside = rasterise(outer, grid, slice_mm), rasterise(lumen, grid, slice_mm)
    return rasterise(join_trees(vessels), grid, slice_mm), (walls, inside)


def save_phantom(phantom: Phantom, scan_path: Path, lesion_path: Path) -> None:
    """Write the scan as int16 and the lesion mask as uint8, both .nii.gz with the same LAS affine.

    Folders are made as needed; files that exist are replaced.

    Raises
    ------
    UsageError
        If a folder cannot be written to.
    """
    save_scan(phantom, scan_path)
    _write(lesion_path, phantom.lesions.astype(np.uint8), las_affine(phantom.hu.shape, phantom.spacing))


def save_scan(phantom: Phantom, scan_path: Path) -> None:
    """Write the scan alone, as int16 .nii.gz; otherwise like `save_phantom`."""
    _write(scan_path, phantom.hu, las_affine(phantom.hu.shape, phantom.spacing))


def las_affine(shape: tuple[int, ...], spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Affine (4, 4) from voxel index to RAS mm for an array whose axes grow_tree Left, Anterior, Superior.

    NIfTI's world x grows to the Right, so the first axis steps backward. The middle of the volume is the
    world's origin.
    """
    sx, sy, sz = spacing
    affine = np.diag([-sx, sy, sz, 1.0])
    middle = (np.asarray(shape[:3], dtype=np.float64) - 1) / 2
    affine[:3, 3] = -affine[:3, :3] @ middle
    return affine


def _write(path: Path, voxels: NDArray[np.int16] | NDArray[np.uint8], affine: NDArray[np.float64]) -> None:
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    make_folder(path.parent)
    with atomic_file(path) as stream:
        # mtime=0: a time stamp would make every run's bytes differ.
        stream.write(gzip.compress(image.to_bytes(), GZIP_LEVEL, mtime=0))


def synthesise(
    out: Path,
    scans: int,
    seed: int,
    *,
    shape: tuple[int, int, int] | None = None,
    workers: int | None = None,
    on_scan: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write `scans` phantoms under `out`; return the paths of the scans, in order.

    Even numbers are normal (`out/scans/normal/phantom_0000.nii.gz`), odd ones abnormal
    (`out/scans/abnormal/phantom_0001.nii.gz`) with their mask in `out/lesions/phantom_0001_mask.nii.gz`. A
    file's bytes depend on `seed`, its number and `shape`, not on `scans` or `workers`.

    Parameters
    ----------
    seed
        Non-negative.
    shape
        As in `make_phantom`.
    workers
        Processes; None for one per usable CPU. With 1 everything runs in this process. More are started
        afresh ("spawn"), so a script that calls this needs `if __name__ == "__main__":`.
    on_scan
        Called in this process with each path once it is written, in order.

    Raises
    ------
    UsageError
        If a number is too small, a folder cannot be written to, or worker processes cannot run.
    """
    if scans < 0 or seed < 0 or (workers is not None and workers < 1):
        raise UsageError(f"Need scans >= 0, seed >= 0, workers >= 1, not {scans=}, {seed=}, {workers=}.")
    _require_memory(shape)
    make = partial(_write_numbered, Path(out), seed, shape)
    done = []
    for path in map_in_processes(make, range(scans), workers or count_usable_cores()):
        done.append(path)
        if on_scan is not None:
            on_scan(path)
    return done


def _require_memory(shape: tuple[int, int, int] | None) -> None:
    size, available = math.prod(shape or (0,)) * BYTES_A_VOXEL, read_available_memory()
    if available is not None and size > available:
        raise UsageError(
            f"A phantom of {shape} voxels takes about {format_bytes(size)} to make; {format_bytes(available)} are free."
        )


def _write_numbered(out: Path, seed: int, shape: tuple[int, int, int] | None, index: int) -> Path:
    # One number out of (seed, index): neighbouring seeds must not share phantoms.
    own = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
    abnormal = index % 2 == 1
    phantom = make_phantom(own, abnormal=abnormal, shape=shape)
    path = out / "scans" / ("abnormal" if abnormal else "normal") / f"phantom_{index:04d}.nii.gz"
    if abnormal:
        save_phantom(phantom, path, out / "lesions" / f"phantom_{index:04d}_mask.nii.gz")
    else:
        save_scan(phantom, path)
    return path
