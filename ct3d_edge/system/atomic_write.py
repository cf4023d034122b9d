"""Files that appear under their name complete, or not at all; and knowing before the work that they can."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ct3d_edge.errors import Ct3dError, DiskError, OutputError, UsageError

PART_PREFIX = ".ct3d-"
"""Of half-written files. Short: a name may have 255 bytes, and the target's own name may already use them."""


DISK_ERRNOS = frozenset((errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG, errno.EIO))
PERMISSION_ERRNOS = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Write to a neighbour of ``path`` and rename it onto ``path`` at the end; remove it if anything fails.

    A symbolic link is followed: what it points to is replaced, the link stays.

    Raises
    ------
    UsageError
        If the folder does not exist, or ``path`` is something other than a file.
    OutputError, DiskError
        If the folder cannot be written to, or the disk is full.
    """
    target = path.resolve()
    _require_regular_file(path, target)
    try:
        handle, name = tempfile.mkstemp(prefix=PART_PREFIX, dir=target.parent)
    except OSError as error:
        raise write_failure_message(path, error) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(target)
        sync_folder(target.parent)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise write_failure_message(path, error) from error
        raise


def require_writable(path: Path) -> None:
    """Make sure that ``atomic_file`` can write ``path``, before work is done whose result it would hold.

    Raises
    ------
    UsageError, OutputError, DiskError
        If it cannot.
    """
    target = path.resolve()
    _require_regular_file(path, target)
    try:
        with tempfile.TemporaryFile(prefix=PART_PREFIX, dir=target.parent):
            pass
    except OSError as error:
        raise write_failure_message(path, error) from error


def sync_folder(folder: Path) -> None:
    """Have new and changed names in a folder survive a power cut; where folders cannot be opened, trust the system."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems sync folders by themselves
            raise
    finally:
        os.close(handle)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises
    ------
    UsageError, OutputError, DiskError
        If it cannot be made, or a file has that name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise to_output_error(error, f"Cannot make the folder {path}: {error.strerror or error}.") from error


def write_failure_message(path: Path, error: OSError) -> Ct3dError:
    """The sentence for a file that the system refuses to write."""
    folder = path.resolve().parent
    missing = error.errno == errno.ENOENT and not folder.exists()
    advice = f" Create the folder {folder} first." if missing else ""
    return to_output_error(error, f"Cannot write {path}: {error.strerror or error}.{advice}")


def to_output_error(error: OSError, message: str) -> Ct3dError:
    """The error of our own for what the system says: of the disk, of permissions, or of a path that makes no sense."""
    if error.errno in DISK_ERRNOS:
        return DiskError(message)
    return OutputError(message) if error.errno in PERMISSION_ERRNOS else UsageError(message)


def _require_regular_file(path: Path, target: Path) -> None:
    """Renaming onto a device or a pipe would replace it by a file."""
    if target.exists() and not target.is_file():
        raise UsageError(f"Cannot write {path}: there is already something by that name that is not a file.")


def _umask() -> int:
    """The process's umask, which ``mkstemp`` overrides with 0600; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
