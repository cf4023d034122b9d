"""A file that one process at a time may write; the operating system releases the lock when its holder dies."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ct3d_edge.errors import UsageError
from ct3d_edge.system.atomic_write import write_failure_message

LOCK_SUFFIX = ".lock"

TIMEOUT_S, POLL_S = 0.1, 0.02
"""Long enough to try again after a former holder has removed the lock file that this process had opened."""

PID_OFFSET, PID_LENGTH = 1, 20
"""Windows locks byte 0 and hides it from readers; the process number follows it."""


IN_USE = "Another run (process {pid}) is writing {path}. Wait until it ends, or name another file."


@contextmanager
def exclusive_lock(path: Path, in_use: str = IN_USE) -> Iterator[None]:
    """Be the only one that writes ``path``, among those who ask through this function.

    The lock is on ``path`` + ``.lock``, which holds the process number. A killed process leaves that file behind, but
    not the lock.

    Raises
    ------
    UsageError
        If another process holds the lock, or the lock file cannot be made.
    """
    file = path.with_name(path.name + LOCK_SUFFIX)
    lock = FileLock(file, timeout=TIMEOUT_S, poll_interval=POLL_S, thread_local=False)
    try:
        if not file.parent.is_dir():  # filelock would make it
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        lock.acquire()
    except Timeout as error:
        raise UsageError(in_use.format(pid=_read_pid(file), path=path)) from error
    except OSError as error:
        raise write_failure_message(path, error) from error
    try:
        _write_pid(file, path)
        yield
    finally:
        # Before the release, so that no other process can hold it. Windows removes no open file; filelock does it then.
        with suppress(OSError):
            file.unlink(missing_ok=True)
        lock.release()


def _write_pid(file: Path, path: Path) -> None:
    try:
        with file.open("r+b") as stream:
            stream.seek(PID_OFFSET)
            stream.write(f"{os.getpid():<{PID_LENGTH}}\n".encode())
    except OSError as error:
        raise write_failure_message(path, error) from error


def _read_pid(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            stream.seek(PID_OFFSET)
            return stream.read(PID_LENGTH).decode(errors="replace").strip("\0 \n") or "unknown"
    except OSError:
        return "unknown"
