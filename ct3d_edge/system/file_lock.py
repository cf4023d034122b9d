"""A file that one process at a time may write: a lock that the system takes back when its holder dies."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ct3d_edge.errors import UsageError
from ct3d_edge.system.atomic_write import write_failure_message

LOCK_SUFFIX = ".lock"


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Be the only one that writes ``path``, among those who ask through this function.

    The lock is on a neighbour named ``path`` + ``.lock``, which holds the process's number. A killed process leaves
    that file behind, but not the lock: the next one takes it over.

    Raises
    ------
    UsageError
        If another process holds the lock, or the neighbour cannot be made.
    """
    place = path.with_name(path.name + LOCK_SUFFIX)
    handle = _acquire(place, path)
    try:
        _write_pid(handle, path)
        yield
    finally:
        # Under the lock: whoever opened the file before and gets the lock now finds it gone, and makes a new one.
        # Where an open file cannot be removed (Windows), or its folder is gone, what is left locks nothing.
        with suppress(OSError):
            place.unlink(missing_ok=True)
        os.close(handle)


def _acquire(place: Path, path: Path) -> int:
    while True:
        try:
            handle = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise write_failure_message(path, error) from error
        if not _lock(handle):
            holder = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise UsageError(
                f"Another run (process {holder}) is writing {path}. Wait until it ends, or name another file."
            )
        if _still_names(place, handle):
            return handle
        os.close(handle)


def _write_pid(handle: int, path: Path) -> None:
    """Leave this process's number for the message of those who come too late."""
    try:
        os.truncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
    except OSError as error:
        raise write_failure_message(path, error) from error


def _still_names(place: Path, handle: int) -> bool:
    """Whether the locked file still has its name: its last holder removes it at the end."""
    try:
        return os.path.samestat(place.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    FAR = 1 << 30
    """Windows hides locked bytes from readers, so one is locked that the file does not have."""

    def _lock(handle: int) -> bool:
        os.lseek(handle, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(handle, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
