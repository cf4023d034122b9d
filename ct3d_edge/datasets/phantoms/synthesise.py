"""A folder of phantoms, half of each class, made in parallel."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ct3d_edge.datasets.phantoms.phantom import make_phantom, save_phantom, save_scan
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.system.machine import count_usable_cores, read_available_memory
from ct3d_edge.system.process_pool import map_in_processes

BYTES_A_VOXEL = 12
"""What making a phantom takes at its peak, measured at 512 x 512 x 60: 222 MB for 16 million voxels."""


@dataclass(frozen=True)
class _Job:
    scan: Path
    lesions: Path | None
    seed: int
    shape: tuple[int, int, int] | None


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
    jobs = [_job(Path(out), index, seed, shape) for index in range(scans)]
    done = []
    for path in map_in_processes(_make, jobs, workers or count_usable_cores()):
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


def _job(out: Path, index: int, seed: int, shape: tuple[int, int, int] | None) -> _Job:
    abnormal = index % 2 == 1
    name = f"phantom_{index:04d}.nii.gz"
    # One number out of (seed, index): neighbouring seeds must not share phantoms.
    own = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0])
    scan = out / "scans" / ("abnormal" if abnormal else "normal") / name
    return _Job(scan, out / "lesions" / f"phantom_{index:04d}_mask.nii.gz" if abnormal else None, own, shape)


def _make(job: _Job) -> Path:
    phantom = make_phantom(job.seed, abnormal=job.lesions is not None, shape=job.shape)
    if job.lesions is None:
        save_scan(phantom, job.scan)
    else:
        save_phantom(phantom, job.scan, job.lesions)
    return job.scan
