"""Files that appear under their name complete, or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ct3d_edge.errors import UsageError


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Write to a neighbour of ``path`` and rename it onto ``path`` at the end; remove it if anything fails.

    Raises
    ------
    UsageError
        If the folder does not exist or cannot be written to.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as error:
        raise UsageError(f"Cannot write {path}: {error.strerror or error}.") from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UsageError(f"Cannot write {path}: {error.strerror or error}.") from error
        raise


def _umask() -> int:
    """The process's umask, which ``mkstemp`` overrides with 0600; it can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
