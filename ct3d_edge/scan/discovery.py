"""Find the scans under files and folders, in a stable order."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from ct3d_edge.errors import NoScansError, UnreadableScanError, UsageError
from ct3d_edge.scan.archive import is_archive, is_file, is_folder, is_special, path_exists, unpacked_files
from ct3d_edge.scan.dicom.magic import NO_SERIES_UID, has_dicom_suffix, is_dicom, is_dicomdir, is_series_name
from ct3d_edge.scan.dicom.series_query import SearchEntry, SearchFlag, SeriesQuery, SkippedFile
from ct3d_edge.scan.folder_walk import UNPACKED_REASON, skip_reason, walk_folders
from ct3d_edge.scan.loader import DETACHED_SUFFIXES, list_scan_files
from ct3d_edge.scan.nifti_header import header_and_voxel_paths
from ct3d_edge.scan.qc_flag import QCFlag

SCAN_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".mha", ".mhd", ".nrrd", ".nhdr")
MASK_SUFFIXES = ("_mask", ".seg")

SERIES_REASONS = ("localizer", "not_ct", "derived")
"""Codes of skipped series, which are taken where their UID is asked for."""

Paths = Iterable[str | os.PathLike[str]] | str | os.PathLike[str]


@dataclass(frozen=True)
class DiscoveredScans:
    """The scans under some paths, the files that were skipped, and quality flags of the search by scan."""

    scans: tuple[Path, ...]
    passed_over: tuple[SkippedFile, ...]
    flags: Mapping[str, tuple[QCFlag, ...]] = field(default_factory=dict)


def find_scans(paths: Paths, series: str | None = None, *, name_by_uid: bool = False) -> list[Path]:
    """Scans under ``paths``; see `discover_scans`."""
    return list(discover_scans(paths, series, name_by_uid=name_by_uid).scans)


def discover_scans(paths: Paths, series: str | None = None, *, name_by_uid: bool = False) -> DiscoveredScans:
    """Scans under ``paths``, one path or several: files and folders, which are searched recursively.

    In folders, files with a suffix of ``SCAN_SUFFIXES`` are scans; DICOM files are detected by content and grouped by
    series. Hidden files and folders and masks (``*_mask.nii.gz``, ``*.seg.nrrd``) are ignored. A folder with several
    links is searched once. A header and its voxel file (.hdr, .mhd, .nhdr) are one scan. A zip archive is searched like
    a folder, unless it was unpacked beside it. Other archives and images of unsupported formats are skipped.
    A DICOM file stands for its whole series; a series is named by its folder, or by ``folder/SERIES-UID`` where the
    folder holds several. Localizers, derived series and other modalities than CT are skipped. Scans are sorted
    within each folder, without duplicates. A subfolder that cannot be searched is returned as a scan, whose opening
    fails; so is a pipe, socket or device with the name of a scan.

    Parameters
    ----------
    series
        SeriesInstanceUID of the one DICOM series to return, even if it would be skipped.
    name_by_uid
        Also name the only series of a folder in ``paths`` by its UID, so that every scan is below one of ``paths``.

    Raises
    ------
    UsageError
        If a path does not exist or one of the folders cannot be searched.
    NoScansError
        If there is no scan under any of the paths.
    """
    roots = [Path(paths)] if isinstance(paths, str | os.PathLike) else list(map(Path, paths))
    for path in roots:
        exists = os.path.lexists(path) or path_exists(path)
        if not exists and not (is_series_name(path.name) and is_folder(path.parent)):
            raise UsageError(f"There is no file or folder {path}.")
    found = _sort_entries(_iterate_scans(roots, SeriesQuery(series, frozenset(roots if name_by_uid else ()))))
    if not found.scans:
        raise NoScansError(_no_scans_error(roots, series, list(found.passed_over)), skipped=bool(found.passed_over))
    return found


def _sort_entries(entries: Iterable[SearchEntry]) -> DiscoveredScans:
    """Each scan and each skipped file once."""
    scans: dict[str, Path] = {}
    passed_over: dict[str, SkippedFile] = {}
    flags: dict[str, tuple[QCFlag, ...]] = {}
    for entry in entries:
        if isinstance(entry, SkippedFile):
            passed_over.setdefault(os.path.abspath(entry.path), entry)  # noqa: PTH100  # resolve() would follow links
        elif isinstance(entry, SearchFlag):
            flags[str(entry.path)] = tuple(dict.fromkeys((*flags.get(str(entry.path), ()), entry.flag)))
        else:
            scans.setdefault(os.path.abspath(entry), entry)  # noqa: PTH100
    return DiscoveredScans(tuple(scans.values()), tuple(passed_over.values()), flags)


def list_scans(folder: Path | str) -> DiscoveredScans:
    """Scans below a folder as of `discover_scans`; there may be none. A series directly in it is named by its UID.

    Raises
    ------
    UsageError
        If a folder cannot be searched.
    """
    folder = Path(folder)
    return _sort_entries(_scans_below([folder], SeriesQuery(by_uid=frozenset([folder])))[folder])


def _no_scans_error(paths: list[Path], series: str | None, passed_over: list[SkippedFile]) -> str:
    under = ", ".join(map(str, paths))
    if series is not None:
        return f"No DICOM series {series} under {under}."
    if passed_over:
        reasons = "\n".join(f"  {each.path}: {each.reason}" for each in passed_over)
        by_uid = any(each.code in SERIES_REASONS for each in passed_over)
        what = "`series=UID` takes one of these anyway" if by_uid else "what is there was not taken"
        return f"No scans under {under}; {what}:\n{reasons}"
    endings = ", ".join(SCAN_SUFFIXES)
    return f"No scans under {under}: looked for files ending in {endings}, for DICOM files and for zip archives."


def _iterate_scans(paths: list[Path], query: SeriesQuery) -> Iterator[SearchEntry]:
    series = _series_by_file([path for path in paths if is_file(path) and _is_image_file(path)], query)
    unpacked = {path for path in paths if is_archive(path) and _is_unpacked_under(path, paths)}
    searched = {path: path.parent if is_dicomdir(path) else path for path in paths if path not in unpacked}
    searched = {path: folder for path, folder in searched.items() if folder != path or is_folder(path)}
    below = _scans_below(list(dict.fromkeys(searched.values())), query)
    for path in paths:
        if path in unpacked:
            yield SkippedFile(path, "archive", UNPACKED_REASON)
        elif path in searched:
            yield from below[searched[path]]
        elif path in series:
            yield from series[path]
        elif query.series in (None, path.name):
            beside = (path.with_suffix(suffix) for suffix in DETACHED_SUFFIXES)
            yield _header_file(path, _headers_of([path, *beside]))


def _is_unpacked_under(archive: Path, paths: list[Path]) -> bool:
    """Whether the files of an archive lie unpacked under other paths, as ``folder/*`` names both."""
    searched = [os.path.abspath(path) for path in paths if path != archive]  # noqa: PTH100
    try:
        files = unpacked_files(archive) if searched else []
    except UnreadableScanError:
        return False
    under = (any(Path(os.path.abspath(file)).is_relative_to(path) for path in searched) for file in files)  # noqa: PTH100
    return bool(files) and all(under)


class _Walked(NamedTuple):
    """What is below a folder, by folder: scans and skipped files without DICOM, and files that may be DICOM."""

    entries: dict[Path, list[SearchEntry]]
    dicom_candidates: dict[Path, list[Path]]


def _scans_below(folders: Sequence[Path], query: SeriesQuery) -> dict[Path, Iterator[SearchEntry]]:
    """Scans in folders and their subfolders, by the former; in each, NIfTI files come first."""
    walked = [_walk(folder, query) for folder in folders]
    dicom = _dicom_scans_by_folder([each.dicom_candidates for each in walked], query)
    found = (_in_order(each.entries, scans, query) for each, scans in zip(walked, dicom, strict=True))
    return dict(zip(folders, found, strict=True))


def _walk(folder: Path, query: SeriesQuery) -> _Walked:
    entries: dict[Path, list[SearchEntry]] = {}
    dicom_candidates: dict[Path, list[Path]] = {}
    walked = list(walk_folders(folder))
    headers = _headers_of([file for _, files in walked if isinstance(files, list) for file in files])
    for current, files in walked:
        if files is None:  # a scan whose opening fails with the reason; the other folders are searched
            entries[current] = [current]
            continue
        if isinstance(files, SkippedFile):
            entries[current] = [files]
            continue
        scans = (path for path in files if _is_standalone_scan(path) and not _is_mask(path))
        entries[current] = [_header_file(path, headers) for path in scans] if query.series is None else []
        entries[current] += filter(None, map(skip_reason, files))
        read = (path for path in files if not (_is_standalone_scan(path) or skip_reason(path)))
        dicom_candidates[current] = [path for path in read if _may_be_dicom(path)]
    return _Walked(entries, dicom_candidates)


def _in_order(
    entries: Mapping[Path, list[SearchEntry]], dicom: Mapping[Path, list[SearchEntry]], query: SeriesQuery
) -> Iterator[SearchEntry]:
    """What was found without DICOM and as DICOM, folder by folder."""
    for current, scans_and_skipped in entries.items():
        yield from scans_and_skipped
        yield from dicom.get(current, ())
    if query.series is None:
        yield from _empty_archives({current: [*found, *dicom.get(current, ())] for current, found in entries.items()})


def _empty_archives(entries: dict[Path, list[SearchEntry]]) -> Iterator[SkippedFile]:
    """The archives among these folders that hold neither a scan nor a file that was skipped, folders below included."""
    for archive in filter(is_archive, entries):
        if not any(found for folder, found in entries.items() if folder.is_relative_to(archive)):
            yield SkippedFile(archive, "archive", "an archive without scans")


def _is_standalone_scan(path: Path) -> bool:
    """Whether a file is a scan by itself, by its name. A pipe or device named as DICOM is not part of a series."""
    return path.name.lower().endswith(SCAN_SUFFIXES) or (has_dicom_suffix(path) and is_special(path))


def _dicom_scans_by_folder(
    roots: Sequence[Mapping[Path, list[Path]]], query: SeriesQuery
) -> list[dict[Path, list[SearchEntry]]]:
    """The DICOM scans below each of several paths, by folder."""
    roots = [{folder: those for folder, those in files.items() if any(map(is_dicom, those))} for files in roots]
    if not any(roots):
        return [{} for _ in roots]
    if not find_spec("pydicom"):  # each folder becomes a scan whose opening fails with the reason
        return [{each: [each / NO_SERIES_UID if each in query.by_uid else each] for each in files} for files in roots]
    from ct3d_edge.scan.dicom.series_search import find_series

    return find_series(roots, query)


def _series_by_file(files: list[Path], query: SeriesQuery) -> dict[Path, list[SearchEntry]]:
    """The series of single DICOM files, by file."""
    if not files or not find_spec("pydicom"):
        return {}
    from ct3d_edge.scan.dicom.series_search import find_series_of_files

    return find_series_of_files(files, query)


def _is_image_file(path: Path) -> bool:
    return _may_be_dicom(path) and not is_dicomdir(path)


def _may_be_dicom(path: Path) -> bool:
    return has_dicom_suffix(path) or is_dicom(path)


def _is_mask(path: Path) -> bool:
    """Whether a file is a segmentation by its name: ``study_0255_mask.nii.gz`` (MosMedData), ``a.seg.nrrd``."""
    return scan_name(path).lower().endswith(MASK_SUFFIXES)


def _headers_of(files: list[Path]) -> dict[Path, Path]:
    """Voxel file to the .mhd or .nhdr header that names it; headers are read only if a voxel file could be a scan."""
    if not any(path.suffix.lower() == ".img" for path in files):
        return {}
    headers = [path for path in files if path.suffix.lower() in DETACHED_SUFFIXES]
    return {voxels: header for header in headers for voxels in list_scan_files(header)[1:]}


def _header_file(path: Path, headers: Mapping[Path, Path]) -> Path:
    """The header of a voxel file: that of a .hdr/.img pair, or the one that names it; any other path unchanged."""
    header, _ = header_and_voxel_paths(path)
    return header if path_exists(header) else headers.get(path, path)


def scan_name(path: Path) -> str:
    """File name without the suffixes of a scan, e.g. ``study_0001`` for ``study_0001.nii.gz``."""
    name = path.name
    for suffix in (".gz", *SCAN_SUFFIXES):
        if name.lower().endswith(suffix):
            name = name[: -len(suffix)]
    return name
