"""The folders below one, each once, and what lies in them that is an image but not read."""

import os
from collections.abc import Iterator
from pathlib import Path

from ct3d_edge.errors import UsageError
from ct3d_edge.scan.dicom.series_query import SkippedFile

ARCHIVE_REASON = "an archive; unpack it first"
GZIPPED_DICOM_REASON = "a compressed DICOM file; decompress it first (gunzip)"
CONVERTIBLE_REASON = "an image in another format ({}); convert it to NIfTI, with its orientation"

UNSUPPORTED_SUFFIXES = {
    **dict.fromkeys(
        (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar"), ("archive", ARCHIVE_REASON)
    ),
    **dict.fromkeys((".dcm.gz", ".dicom.gz", ".ima.gz"), ("compressed_dicom", GZIPPED_DICOM_REASON)),
    **dict.fromkeys((".mha", ".mhd"), ("other_format", CONVERTIBLE_REASON.format("MetaImage"))),
    **dict.fromkeys((".nrrd", ".nhdr"), ("other_format", CONVERTIBLE_REASON.format("NRRD"))),
    **dict.fromkeys((".mgh", ".mgz"), ("other_format", CONVERTIBLE_REASON.format("FreeSurfer"))),
    ".mnc": ("other_format", CONVERTIBLE_REASON.format("MINC")),
}
"""Endings of files that hold scans and are not read: code and reason."""

FolderEntry = tuple[Path, list[Path] | SkippedFile | None]


def walk_folders(folder: Path) -> Iterator[FolderEntry]:
    """Folders from here down, parents first, each with its files sorted; None where one cannot be searched.

    Links to folders are followed after all folders, each folder once: a link to one that was searched already, as
    every loop ends in one, is passed over. `os.walk` calls itself for each level, of which there may be two thousand.

    Raises
    ------
    UsageError
        If ``folder`` itself cannot be searched.
    """
    waiting, links, searched = [folder], list[Path](), set[tuple[int, int]]()
    while waiting or links:
        linked = not waiting
        place = links.pop(0) if linked else waiting.pop()
        try:
            identity = _folder_id(place)
            if linked and identity in searched:
                yield place, SkippedFile(place, "link", f"a link to {place.resolve()}, which was searched already")
                continue
            searched.add(identity)
            with os.scandir(place) as entries:
                found = sorted((each for each in entries if not each.name.startswith(".")), key=lambda each: each.name)
        except OSError as error:
            if place == folder:
                raise UsageError(f"The folder {folder} cannot be searched: {error.strerror or error}.") from error
            yield place, None
            continue
        yield place, [place / each.name for each in found if not _is_folder(each)]
        folders = [each for each in found if _is_folder(each)]
        links += [place / each.name for each in folders if each.is_symlink()]
        waiting += [place / each.name for each in reversed(folders) if not each.is_symlink()]


def unsupported_format_reason(path: Path) -> SkippedFile | None:
    """Why a file that is an image or holds images is not read; None of any other file."""
    name = path.name.lower()
    code, reason = next((said for ending, said in UNSUPPORTED_SUFFIXES.items() if name.endswith(ending)), (None, ""))
    return None if code is None else SkippedFile(path, code, reason)


def _folder_id(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that goes round in circles is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False
