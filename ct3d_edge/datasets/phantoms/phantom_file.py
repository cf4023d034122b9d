"""Phantoms as NIfTI files: same phantom, same bytes, and never half a file under the final name."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from ct3d_edge.atomic import atomic_file, make_folder
from ct3d_edge.datasets.phantoms.phantom import Phantom

GZIP_LEVEL = 1
"""Noise does not compress; higher levels cost seconds and save little."""


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
    """Affine (4, 4) from voxel index to RAS mm for an array whose axes grow Left, Anterior, Superior.

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
