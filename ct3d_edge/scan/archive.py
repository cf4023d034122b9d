"""Files inside a zip archive, addressed by paths such as ``study.zip/DICOM/1.dcm``. Nothing is unpacked onto the disk.

An archive counts as a folder. All of its entries are checked before the first is read; members are decompressed in
memory, by the process that reads them. The functions here take every path, whether it leads into an archive or not.
Those for the kind of a path raise no error; `pathlib` does where a folder above may not be entered or a name is too
long, in some versions of Python.
"""

import errno
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast
from zipfile import ZipFile, ZipInfo

from isal import isal_zlib

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.formatting import printable
from ct3d_edge.system.zip_entries import DAMAGE, ZipLimits, require_safe_entries

SUFFIX = ".zip"

LIMITS = ZipLimits(entries=100_000, ratio_from=16 << 20)
"""Members are read one by one; small ones that expand far, such as a slice of air, are harmless."""

BLOCK_BYTES = 1 << 20

REMEMBERED_CHECKSUMS = 100_000
"""Files whose CRC-32 is remembered while they do not change: a folder may be searched every second."""

OPEN_ARCHIVES = 16
"""Archives whose list of entries is remembered."""


class FileState(NamedTuple):
    """What identifies a version of a file: equal states mean that it was not modified; size in bytes, time in ns."""

    device: int
    inode: int
    size: int
    modified_ns: int


class ZipArchive:
    """The checked entries of an archive.

    Parameters
    ----------
    opened
        The archive.

    Raises
    ------
    ValueError
        For a link, a path that leads elsewhere, an encrypted entry, a bomb, or two entries of one name.
    """

    def __init__(self, opened: ZipFile) -> None:
        self._opened = opened
        entries = opened.infolist()
        require_safe_entries(entries, LIMITS)
        self.files: dict[str, ZipInfo] = {}
        self.children: dict[str, set[str]] = defaultdict(set)
        """Names in each folder; the archive itself is the folder ``""``."""
        for entry in entries:
            name = entry.filename.removesuffix("/")
            if name in self.files:
                raise ValueError(f"two of its entries have the name {printable(name)}")
            if not entry.is_dir():
                self.files[name] = entry
            while name:
                parent, _, last = name.rpartition("/")
                self.children[parent].add(last)
                name = parent
        for name in self.children.keys() & self.files.keys():
            raise ValueError(f"its entry {printable(name)} is both a file and a folder")

    def open(self, name: str) -> BinaryIO:
        """Open a member for reading; its checksum is compared at its end."""
        return cast(BinaryIO, self._opened.open(self.files[name]))


def is_archive(path: Path) -> bool:
    """Whether it is a zip archive by its name."""
    return path.name.lower().endswith(SUFFIX) and os.path.isfile(path)  # noqa: PTH113


def split_archive_path(path: Path) -> tuple[Path, str] | None:
    """The archive that a path leads into and the name in it, ``""`` for the archive itself; None for other paths."""
    if SUFFIX not in str(path).lower():
        return None
    archive = next((each for each in (path, *path.parents) if is_archive(each)), None)
    return None if archive is None else (archive, "/".join(path.parts[len(archive.parts) :]))


def open_archive(path: Path) -> ZipArchive:
    """Open an archive and check its entries; both are remembered until the file changes.

    Raises
    ------
    UnreadableScanError
        ``bad_archive`` if it is damaged, or one of its entries is refused (see `ZipArchive`); ``unreadable``.
    """
    with _translating(path):
        # A process has its own: a forked one would share the position in the file.
        return _open_cached(path, _stat(path), os.getpid())


def forget_archives() -> None:
    """Close the remembered archives that nobody reads: removed files take disk space until they are closed."""
    _open_cached.cache_clear()


@lru_cache(OPEN_ARCHIVES)
def _open_cached(path: Path, _state: FileState, _process: int) -> ZipArchive:
    return ZipArchive(ZipFile(path))


@contextmanager
def _translating(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, PermissionError) as error:
        raise UnreadableScanError("unreadable", f"{path.name} cannot be read: {error.strerror}.") from error
    except DAMAGE as error:
        reason = printable(str(error))
        raise UnreadableScanError(
            "bad_archive", f"The archive {path.name} cannot be read: {reason}. Unpack or export it again."
        ) from error


def is_member(path: Path) -> bool:
    """Whether a path is that of a file in an archive that can be read."""
    return (place := _locate(path)) is not None and place[1] in place[0].files


def is_member_folder(path: Path) -> bool:
    """Whether a path is an archive or, in one that can be read, a folder."""
    return is_archive(path) or ((place := _locate(path)) is not None and place[1] in place[0].children)


def path_exists(path: Path) -> bool:
    """Whether the path exists; False for a broken link."""
    return os.path.exists(path) or is_member(path) or is_member_folder(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Whether it is a regular file, a link to one, or a file in an archive."""
    return os.path.isfile(path) or is_member(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether it is a folder, a link to one, an archive, or a folder in one."""
    return os.path.isdir(path) or is_member_folder(path)  # noqa: PTH112


def is_special(path: Path) -> bool:
    """Whether it is a pipe, a socket or a device: opening one may block for ever."""
    return not is_file(path) and path_exists(path) and not is_folder(path)


def _locate(path: Path) -> tuple[ZipArchive, str] | None:
    """The archive of a path and the name inside it; None if it is in none, or in one that cannot be read."""
    split = split_archive_path(path)
    try:
        return None if split is None else (open_archive(split[0]), split[1])
    except UnreadableScanError:
        return None


def list_archive_folder(path: Path) -> tuple[list[Path], list[Path]] | None:
    """Files and folders directly in an archive or in a folder of one, sorted; None for other paths.

    Raises
    ------
    UnreadableScanError
        See `open_archive`; ``not_found``.
    """
    split = split_archive_path(path)
    if split is None:
        return None
    archive, name = open_archive(split[0]), split[1]
    if name and name not in archive.children:
        raise UnreadableScanError("not_found", f"{split[0].name} holds no folder {name}.")
    names = sorted(archive.children[name])
    inside = [f"{name}/{each}" if name else each for each in names]
    files = [path / each for each, whole in zip(names, inside, strict=True) if whole in archive.files]
    return files, [path / each for each, whole in zip(names, inside, strict=True) if whole not in archive.files]


def unpacked_files(path: Path) -> list[Path]:
    """The files of an archive beside it, where it was unpacked: in its folder, or in one of its own name.

    All must be there with the same content, but for hidden ones, which operating systems add; else an empty list.

    Raises
    ------
    UnreadableScanError
        See `open_archive`.
    """
    members = open_archive(path).files
    visible = {name: entry for name, entry in members.items() if not _is_hidden(name)}
    for folder in (path.parent, path.with_suffix("")):
        if all(_has_content_of(entry, folder / name) for name, entry in visible.items()):
            return [folder / name for name in visible]
    return []


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def _has_content_of(entry: ZipInfo, path: Path) -> bool:
    """Whether a file has the size and the CRC-32 of a member; files of one size may be slices of two patients."""
    try:
        state = _stat(path)
        return state.size == entry.file_size and _crc32(path, state) == entry.CRC
    except (OSError, ValueError):
        return False


@lru_cache(REMEMBERED_CHECKSUMS)
def _crc32(path: Path, _state: FileState) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            checksum = isal_zlib.crc32(block, checksum)
    return checksum


def open_file(path: Path) -> BinaryIO:
    """Open a file, or a member of an archive, for reading.

    Raises
    ------
    OSError
        As `open`; ``FileNotFoundError`` if an archive has no such member.
    UnreadableScanError
        See `open_archive`.
    """
    split = split_archive_path(path)
    if split is None or not split[1]:
        return path.open("rb")
    archive = open_archive(split[0])
    with _translating(split[0]):
        return archive.open(_require_member(archive, split[1], path))


def read_file_state(path: Path) -> FileState:
    """The state of a file; a member of an archive has the archive's, with its own size.

    Raises
    ------
    OSError, UnreadableScanError
        As `open_file`.
    """
    split = split_archive_path(path)
    if split is None or not split[1]:
        return _stat(path)
    archive = open_archive(split[0])
    size = archive.files[_require_member(archive, split[1], path)].file_size
    return _stat(split[0])._replace(size=size)


def _require_member(archive: ZipArchive, name: str, path: Path) -> str:
    if name not in archive.files:
        raise FileNotFoundError(errno.ENOENT, "no such member of the archive", str(path))
    return name


def _stat(path: Path) -> FileState:
    status = os.stat(path)  # noqa: PTH116  # a path with a NUL or a loop is an error here as everywhere
    return FileState(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
