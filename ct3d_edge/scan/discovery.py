"""From paths on a command line to the scans they stand for, in a stable order."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ct3d_edge.errors import UsageError
from ct3d_edge.scan.header import pair_of

SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
MASK_ENDING = "_mask"


def find_scans(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Scans under ``paths``: files as they are, folders searched recursively.

    In folders only names ending in ``SUFFIXES`` count. Hidden files and folders and masks (``*_mask.nii.gz``) do not,
    links to folders are not followed (they may loop), and a .hdr/.img pair is one scan. Sorted within each folder; a
    scan named twice is kept once.

    Raises
    ------
    UsageError
        If a path does not exist or no scan is found under any of them.
    """
    places = list(map(Path, paths))
    found: dict[str, Path] = {}
    for path in places:
        if not os.path.lexists(path):
            raise UsageError(f"There is no file or folder {path}.")
        for scan in scans_in(path) if path.is_dir() else [_representative(path)]:
            found.setdefault(os.path.abspath(scan), scan)  # noqa: PTH100  # resolve() would follow links
    if not found:
        raise UsageError(
            f"No scans under {', '.join(map(str, places))}: looked for files ending in {', '.join(SUFFIXES)}. "
            "DICOM series must be converted to NIfTI first; dcm2niix does it."
        )
    return list(found.values())


def scans_in(folder: Path) -> Iterator[Path]:
    """Scans under a folder, as `find_scans` finds them; perhaps none.

    Raises
    ------
    UsageError
        If a folder cannot be searched.
    """
    for parent, folders, files in os.walk(folder, onerror=_stop):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith(".") and not _is_mask(name):
                yield _representative(Path(parent, name))


def _stop(error: OSError) -> None:
    """A folder left out in silence would look like a folder without scans."""
    raise UsageError(f"The folder {error.filename} cannot be searched: {error.strerror or error}.") from error


def _is_mask(name: str) -> bool:
    """Whether a name is that of a segmentation, as MosMedData writes them: ``study_0255_mask.nii.gz``."""
    return scan_name(Path(name)).lower().endswith(MASK_ENDING)


def _representative(path: Path) -> Path:
    """The header file of a pair, so that it counts once; any other path itself."""
    header, _ = pair_of(path)
    return header if header.exists() else path


def scan_name(path: Path) -> str:
    """File name without the endings of a scan, e.g. ``study_0001`` for ``study_0001.nii.gz``."""
    name = path.name
    for suffix in (".gz", *SUFFIXES):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name
