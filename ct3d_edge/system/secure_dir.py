"""Folders whose content only this user can have put there: their files may be loaded as code."""

import os
import stat
from pathlib import Path

from ct3d_edge.errors import ProviderError

POSIX = os.name == "posix"
"""Elsewhere a user's own folders are private by other means, which Python does not show."""

GROUP_OR_OTHER_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_secure_dir(folder: Path) -> None:
    """Make a folder for this user alone (0700), or make sure that an existing one is.

    Raises
    ------
    ProviderError
        If others can write to it, it belongs to someone else, it is a link, or it cannot be made.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason = insecure_reason(folder) or _find_writable_parent(folder)
        if reason is None and POSIX:
            folder.chmod(0o700)  # others may have been able to read
    except OSError as error:
        reason = f"it cannot be made or looked at ({error.strerror or error})"
    if reason:
        raise ProviderError(
            f"engines cannot be stored in {folder}: {reason}. Engines are native code, so the folder must be "
            "this user's alone. Put it right, or set CT3D_EDGE_ENGINES to another folder"
        )


def insecure_reason(path: Path) -> str | None:
    """Why somebody else may have put ``path`` there or changed it; None if nobody can have.

    Raises
    ------
    OSError
        If it cannot be looked at.
    """
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return f"{path.name} is a link"
    if not POSIX:
        return None
    if found.st_uid != os.geteuid():
        return f"{path.name} belongs to another user"
    return f"others can write to {path.name}" if found.st_mode & GROUP_OR_OTHER_WRITE else None


def _find_writable_parent(folder: Path) -> str | None:
    """A folder above that anybody may write to, so that anybody may put another one in place of ``folder``."""
    for parent in folder.resolve().parents if POSIX else ():
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"anybody can write to {parent} above it"
    return None
