"""Walk folders, each once, and detect files of unsupported image formats."""

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
"""Suffixes of unsupported files that contain scans: code and reason."""

FolderEntry = tuple[Path, list[Path] | SkippedFile | None]


def walk_folders(folder: Path) -> Iterator[FolderEntry]:
    """Yield this folder and those below, parents first, each with its sorted files; None if it cannot be searched.

    Links to folders are followed after all folders. A link to a folder that was searched already is skipped, which ends
    loops. `os.walk` is recursive, and there may be two thousand levels.

    Raises
    ------
    UsageError
        If ``folder`` itself cannot be searched.
    """
    waiting, links, searched = [folder], list[Path](), set[tuple[int, int]]()
    while waiting or links:
        linked = not waiting
        current = links.pop(0) if linked else waiting.pop()
        try:
            identity = _folder_id(current)
            if linked and identity in searched:
                yield (
                    current,
                    SkippedFile(current, "link", f"a link to {current.resolve()}, which was searched already"),
                )
                continue
            searched.add(identity)
            with os.scandir(current) as entries:
                children = sorted(
                    (each for each in entries if not each.name.startswith(".")), key=lambda each: each.name
                )
        except OSError as error:
            if current == folder:
                raise UsageError(f"The folder {folder} cannot be searched: {error.strerror or error}.") from error
            yield current, None
            continue
        yield current, [current / each.name for each in children if not _is_folder(each)]
        folders = [each for each in children if _is_folder(each)]
        links += [current / each.name for each in folders if each.is_symlink()]
        waiting += [current / each.name for each in reversed(folders) if not each.is_symlink()]


def unsupported_format_reason(path: Path) -> SkippedFile | None:
    """The reason why an image file is skipped; None for any other file."""
    name = path.name.lower()
    code, reason = next((entry for ending, entry in UNSUPPORTED_SUFFIXES.items() if name.endswith(ending)), (None, ""))
    return None if code is None else SkippedFile(path, code, reason)


def _folder_id(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; False for a link in a loop of links."""
    try:
        return entry.is_dir()
    except OSError:
        return False
