"""What the text headers of MetaImage and NRRD have in common: they may name another file, and count in LPS+ mm."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.scan.geometry_checks import BAD_AFFINE_FLAG, affine_if_valid, tilt_flags
from ct3d_edge.scan.gzip_reader import ScanReader
from ct3d_edge.scan.qc_flag import QCFlag

MAX_HEADER_BYTES = 1 << 20
"""Of a header; usual ones have 1 kB. Some hold the header of a DICOM file, as text."""


def read_header_bytes(path: Path) -> bytes:
    """The beginning of a file, of which the header is a part."""
    with ScanReader(path, encoding="raw") as stream:
        return stream.read_head(MAX_HEADER_BYTES)


def header_error(path: Path, problem: str) -> UnreadableScanError:
    """The error of a file with this problem in its header."""
    return UnreadableScanError("bad_header", f"{path.name} {problem}.")


def resolve_voxel_file(path: Path, named: str) -> Path:
    """The voxel file that the header in ``path`` names, in its folder or below.

    Raises
    ------
    UnreadableScanError
        ``bad_header`` if it lies elsewhere, or is a list or pattern of files.
    """
    if not named.isprintable():
        raise header_error(path, "has a name of its voxel file with control characters")
    if not named or named.split(maxsplit=1)[0].upper() == "LIST" or "%" in named:
        raise header_error(path, "has its voxels in several files; write it as one file")
    relative = Path(named.replace("\\", "/"))
    if relative.is_absolute() or ".." in relative.parts or ":" in named:
        raise header_error(path, f"has its voxels in {named!r}, outside its folder; put both files into one folder")
    return path.parent / relative


def affine_from_axes(
    axes: NDArray[np.float64], origin: NDArray[np.float64], signs: tuple[float, float, float]
) -> tuple[NDArray[np.float64] | None, tuple[QCFlag, ...]]:
    """The affine of a volume, voxel indices to RAS+ mm, and its quality flags; None if the axes cannot be used.

    Parameters
    ----------
    axes
        ``(3, 3)``: columns are the steps from voxel to voxel along i, j and k, in mm.
    origin
        ``(3,)``: position of the first voxel, in mm.
    signs
        Turn the coordinates of both into RAS+.
    """
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = axes, origin
    affine[:3] *= np.array(signs)[:, None]
    if affine_if_valid(affine) is None:
        return None, (BAD_AFFINE_FLAG,)
    return affine, tilt_flags(affine)
