"""A map as a NIfTI file that opens as an overlay on its scan: the same shape, the same affine."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from ct3d_edge.atomic import atomic_file
from ct3d_edge.explain.place import MapOfScan

LEVELS = 255
GZIP_LEVEL = 1
"""A smooth map is small at any level; higher ones take longer."""


LONGEST_NOTE = 79
"""Bytes that a NIfTI header keeps for a description."""


def save_map(overlay: MapOfScan, path: Path, note: str = "") -> None:
    """Write a map as .nii.gz, uint8 with a slope that gives its values back; complete or not at all.

    ``note`` is kept in the header as its description, as far as that has room.

    Raises
    ------
    UsageError
        If it cannot be written.
    """
    slope = overlay.peak / LEVELS or 1.0
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(overlay.shape)
    header.set_slope_inter(slope, 0)
    header.set_xyzt_units("mm")
    if overlay.affine is not None:
        header.set_sform(overlay.affine, code="scanner")
        header.set_zooms(np.sqrt((overlay.affine[:3, :3] ** 2).sum(axis=0)))
    header["descrip"] = _kept(note)
    header["magic"], header["vox_offset"] = b"n+1", header.sizeof_hdr + 4
    with (
        atomic_file(path) as stream,
        # Neither a time stamp nor a name: every run's bytes would differ.
        gzip.GzipFile("", "wb", GZIP_LEVEL, stream, mtime=0) as packed,
    ):
        packed.write(header.binaryblock + bytes(4))
        for plane in overlay.planes():
            packed.write(np.rint(plane / slope).astype(np.uint8).tobytes())


def has_note(path: Path, note: str) -> bool:
    """Whether there is a map that was written with this note."""
    try:
        return bytes(nib.load(path).header["descrip"].item()) == _kept(note)
    except (OSError, nib.filebasedimages.ImageFileError):
        return False


def _kept(note: str) -> bytes:
    return note.encode("ascii", "replace")[:LONGEST_NOTE]
