"""Walk folders and archives, each once, and detect files that are images and are not read."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ct3d_edge.errors import UnreadableScanError, UsageError
from ct3d_edge.scan.archive import is_archive, list_archive_folder, unpacked_files
from ct3d_edge.scan.dicom.magic import is_dicomdir
from ct3d_edge.scan.dicom.series_query import SkippedFile

ARCHIVE_REASON = "an archive; unpack it first"
NESTED_ARCHIVE_REASON = "an archive inside an archive; unpack the outer one first"
UNPACKED_REASON = "an archive that was unpacked beside it; its files were searched there"
DICOMDIR_REASON = "the index of a DICOM medium; the files in its folder and below were searched"
CONVERTIBLE_REASON = "an image in another format ({}); convert it to NIfTI, with its orientation"

UNSUPPORTED_SUFFIXES = {
    ".zip": ("archive", NESTED_ARCHIVE_REASON),
    **dict.fromkeys((".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar"), ("archive", ARCHIVE_REASON)),
    **dict.fromkeys((".mgh", ".mgz"), ("other_format", CONVERTIBLE_REASON.format("FreeSurfer"))),
    ".mnc": ("other_format", CONVERTIBLE_REASON.format("MINC")),
}
"""Suffixes of unsupported files that contain scans: code and reason. Other archives (.zip) are walked as folders."""

FolderEntry = tuple[Path, list[Path] | SkippedFile | None]


class _Children(NamedTuple):
    """What is directly in a folder, sorted; ``links`` are those to folders, ``folders`` the other ones and archives."""

    files: list[Path]
    folders: list[Path]
    links: list[Path]


def walk_folders(folder: Path) -> Iterator[FolderEntry]:
    """Yield this folder and those below, parents first, each with its sorted files; None if it cannot be searched.

    Zip archives count as folders. Links to folders are followed after all folders. A link to a folder that was searched
    already is skipped, which ends loops. `os.walk` is recursive, and there may be two thousand levels.

    Raises
    ------
    UsageError
        If ``folder`` itself is not an archive and cannot be searched.
    """
    waiting, links, searched = [folder], list[Path](), set[tuple[int, int]]()
    while waiting or links:
        linked = not waiting
        current = links.pop(0) if linked else waiting.pop()
        try:
            identity = _folder_id(current)
            if linked and identity in searched:
                reason = f"a link to {current.resolve()}, which was searched already"
                yield current, SkippedFile(current, "link", reason)
                continue
            if identity is not None:
                searched.add(identity)
            if current != folder and is_archive(current) and unpacked_files(current):
                yield current, SkippedFile(current, "archive", UNPACKED_REASON)
                continue
            children = _list_children(current)
        except UnreadableScanError:
            yield current, None
            continue
        except OSError as error:
            if current == folder:
                raise UsageError(f"The folder {folder} cannot be searched: {error.strerror or error}.") from error
            yield current, None
            continue
        yield current, children.files
        links += children.links
        waiting += reversed(children.folders)


def _list_children(folder: Path) -> _Children:
    """The entries of a folder, an archive or a folder in one; hidden ones are left out."""
    inside = list_archive_folder(folder)
    if inside is not None:
        files, folders = ([path for path in paths if not path.name.startswith(".")] for paths in inside)
        return _Children(files, folders, [])
    children = _Children([], [], [])
    with os.scandir(folder) as entries:
        for entry in sorted((each for each in entries if not each.name.startswith(".")), key=lambda each: each.name):
            path = folder / entry.name
            if _is_folder(entry):
                (children.links if entry.is_symlink() else children.folders).append(path)
            else:
                (children.folders if is_archive(path) else children.files).append(path)
    return children


def skip_reason(path: Path) -> SkippedFile | None:
    """The reason why a file of images, or the index of such files, is skipped; None for any other file."""
    if is_dicomdir(path):
        return SkippedFile(path, "dicomdir", DICOMDIR_REASON)
    name = path.name.lower()
    code, reason = next((entry for ending, entry in UNSUPPORTED_SUFFIXES.items() if name.endswith(ending)), (None, ""))
    return None if code is None else SkippedFile(path, code, reason)


def _folder_id(folder: Path) -> tuple[int, int] | None:
    """Device and inode of a folder; None for an archive, and for a folder in one."""
    if list_archive_folder(folder) is not None:
        return None
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; False for a link in a loop of links."""
    try:
        return entry.is_dir()
    except OSError:
        return False
