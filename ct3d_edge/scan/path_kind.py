"""The kind of a path, which may lead into a zip archive; no error is raised.

`pathlib` raises where a folder above may not be entered or a name is too long, in some versions of Python.
"""

import os
import stat
from pathlib import Path

from ct3d_edge.scan.archive import is_member, is_member_folder

FILE_TYPES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


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


def describe_file_type(mode: int) -> str:
    """The kind of file with this mode (``st_mode``), for one that is not regular."""
    return FILE_TYPES.get(stat.S_IFMT(mode), "something else")
