"""The private folder in which uploads are stored while they are predicted."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ct3d_edge.errors import UsageError
from ct3d_edge.scan.archive import forget_archives
from ct3d_edge.system.atomic_write import write_failure_message
from ct3d_edge.system.file_lock import exclusive_lock

PREFIX = "ct3d-serve-"


@contextmanager
def open_spool(parent: Path | None) -> Iterator[Path]:
    """A new folder that only this user can open; removed at the end, with all that it holds.

    Folders that killed servers of this user left behind are removed too: they hold scans.

    Raises
    ------
    UsageError, OutputError, DiskError
        If it cannot be made.
    """
    parent = (parent or Path(tempfile.gettempdir())).resolve()
    folder = parent / f"{PREFIX}{secrets.token_hex(8)}"
    with exclusive_lock(folder):  # before the folder is there, so that no other server takes it for a remainder
        _remove_remainders(parent)
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise write_failure_message(folder, error) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def request_folder(spool: Path) -> Iterator[Path]:
    """A folder for the files of one request."""
    folder = Path(tempfile.mkdtemp(dir=spool))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        forget_archives()


def _remove_remainders(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError, UsageError):  # a lock that is held belongs to a server that runs
            if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != _user():
                continue
            with exclusive_lock(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0  # Windows gives every file the user 0
