"""From paths on a command line to the scans they stand for, in a stable order."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ct3d_edge.errors import UsageError
from ct3d_edge.scan.dicom.magic import NO_SERIES_UID, has_dicom_suffix, is_dicom, is_series_name
from ct3d_edge.scan.dicom.series_query import SeriesQuery, SkippedFile
from ct3d_edge.scan.folder_walk import unsupported_format_reason, walk_folders
from ct3d_edge.scan.nifti_header import header_and_voxel_paths
from ct3d_edge.scan.path_kind import is_file, is_folder, is_special, path_exists

SCAN_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img")
MASK_SUFFIX = "_mask"

Paths = Iterable[str | os.PathLike[str]] | str | os.PathLike[str]


@dataclass(frozen=True)
class DiscoveredScans:
    """What was found under some paths."""

    scans: tuple[Path, ...]
    passed_over: tuple[SkippedFile, ...]


def find_scans(paths: Paths, series: str | None = None, *, below: bool = False) -> list[Path]:
    """Scans under ``paths``; see `discover_scans`."""
    return list(discover_scans(paths, series, below=below).scans)


def discover_scans(paths: Paths, series: str | None = None, *, below: bool = False) -> DiscoveredScans:
    """Scans under ``paths``, one path or several: files as they are, folders searched recursively.

    In folders, names ending in ``SUFFIXES`` count, and DICOM files, which are recognised by content and grouped by
    series. Hidden files and folders and masks (``*_mask.nii.gz``) do not, a folder that several links lead to is
    searched once, and a .hdr/.img pair is one scan. Archives and images of formats that are not read are passed over.
    A DICOM file stands for its whole series; a series is named by its folder, or by ``folder/SERIES-UID`` where the
    folder holds several. Localizers, derived series and what is not CT are passed over. Sorted within each folder; a
    scan named twice is kept once. A folder below that cannot be searched is a scan that cannot be opened, and so is a
    pipe, socket or device with the name of a scan.

    Parameters
    ----------
    series
        SeriesInstanceUID of the one DICOM series that is wanted, even if it would be passed over.
    below
        Also name a series by its UID that lies alone in one of ``paths``, so that every name is one below them.

    Raises
    ------
    UsageError
        If a path does not exist, a folder that is named cannot be searched, or no scan is found under any of them.
    """
    places = [Path(paths)] if isinstance(paths, str | os.PathLike) else list(map(Path, paths))
    found: dict[str, Path] = {}
    passed_over: dict[str, SkippedFile] = {}
    for path in places:
        if not os.path.lexists(path) and not (is_series_name(path.name) and is_folder(path.parent)):
            raise UsageError(f"There is no file or folder {path}.")
    for scan in _iterate_scans(places, SeriesQuery(series, frozenset(places if below else ()))):
        if isinstance(scan, SkippedFile):
            passed_over.setdefault(os.path.abspath(scan.path), scan)  # noqa: PTH100  # resolve() would follow links
        else:
            found.setdefault(os.path.abspath(scan), scan)  # noqa: PTH100
    if not found:
        raise UsageError(_no_scans_error(places, series, list(passed_over.values())))
    return DiscoveredScans(tuple(found.values()), tuple(passed_over.values()))


def list_scans(folder: Path | str) -> list[Path]:
    """Scans below a folder, as `find_scans` finds them; perhaps none. A series that lies in it has its UID's name.

    Raises
    ------
    UsageError
        If a folder cannot be searched.
    """
    folder = Path(folder)
    found = _scans_below(folder, SeriesQuery(by_uid=frozenset([folder])))
    return [scan for scan in found if not isinstance(scan, SkippedFile)]


def _no_scans_error(paths: list[Path], series: str | None, passed_over: list[SkippedFile]) -> str:
    under = ", ".join(map(str, paths))
    if series is not None:
        return f"No DICOM series {series} under {under}."
    if passed_over:
        reasons = "\n".join(f"  {each.path}: {each.reason}" for each in passed_over)
        return f"No scans under {under}; `series=UID` takes one of these all the same:\n{reasons}"
    return f"No scans under {under}: looked for files ending in {', '.join(SCAN_SUFFIXES)} and for DICOM files."


def _iterate_scans(paths: list[Path], wanted: SeriesQuery) -> Iterator[Path | SkippedFile]:
    named = _series_by_file([path for path in paths if is_file(path) and _may_be_dicom(path)], wanted)
    for path in paths:
        if is_folder(path):
            yield from _scans_below(path, wanted)
        elif path in named:
            yield from named[path]
        elif wanted.series in (None, path.name):
            yield _header_file(path)


def _scans_below(folder: Path, wanted: SeriesQuery) -> Iterator[Path | SkippedFile]:
    """Scans in a folder and in those under it; in each, NIfTI files come first."""
    alone: dict[Path, list[Path | SkippedFile]] = {}
    others: dict[Path, list[Path]] = {}
    for place, files in walk_folders(folder):
        if files is None:  # a scan that cannot be opened, and says why: the others go on
            alone[place] = [place]
            continue
        if isinstance(files, SkippedFile):
            alone[place] = [files]
            continue
        scans = (path for path in files if _is_standalone_scan(path) and not _is_mask(path))
        alone[place] = [_header_file(path) for path in scans] if wanted.series is None else []
        alone[place] += filter(None, map(unsupported_format_reason, files))
        read = (path for path in files if not (_is_standalone_scan(path) or unsupported_format_reason(path)))
        others[place] = [path for path in read if _may_be_dicom(path)]
    dicom = _dicom_scans_by_folder(others, wanted)
    for place, found in alone.items():
        yield from found
        yield from dicom.get(place, ())


def _is_standalone_scan(path: Path) -> bool:
    """Whether a file is a scan by itself, by its name; a pipe or device that promises DICOM belongs to no series."""
    return _is_nifti(path) or (has_dicom_suffix(path) and is_special(path))


def _dicom_scans_by_folder(files: dict[Path, list[Path]], wanted: SeriesQuery) -> dict[Path, list[Path | SkippedFile]]:
    """The DICOM scans in folders, by folder."""
    files = {place: those for place, those in files.items() if any(map(is_dicom, those))}
    if not files:
        return {}
    if not find_spec("pydicom"):  # each folder becomes a scan that cannot be opened, and says why
        return {place: [place / NO_SERIES_UID if place in wanted.by_uid else place] for place in files}
    from ct3d_edge.scan.dicom.series_search import find_series

    return find_series(files, wanted)


def _series_by_file(files: list[Path], wanted: SeriesQuery) -> dict[Path, list[Path | SkippedFile]]:
    """The series that DICOM files named one by one belong to, by file."""
    if not files or not find_spec("pydicom"):
        return {}
    from ct3d_edge.scan.dicom.series_search import find_series_of_files

    found = find_series_of_files(files)
    return {file: [place] if wanted.series in (None, uid) else [] for file, (place, uid) in found.items()}


def _may_be_dicom(path: Path) -> bool:
    return has_dicom_suffix(path) or is_dicom(path)


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith(SCAN_SUFFIXES)


def _is_mask(path: Path) -> bool:
    """Whether a name is that of a segmentation, as MosMedData writes them: ``study_0255_mask.nii.gz``."""
    return scan_name(path).lower().endswith(MASK_SUFFIX)


def _header_file(path: Path) -> Path:
    """The header file of a pair, so that it counts once; any other path itself."""
    header, _ = header_and_voxel_paths(path)
    return header if path_exists(header) else path


def scan_name(path: Path) -> str:
    """File name without the endings of a scan, e.g. ``study_0001`` for ``study_0001.nii.gz``."""
    name = path.name
    for suffix in (".gz", *SCAN_SUFFIXES):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name
