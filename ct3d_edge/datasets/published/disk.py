"""What the disk has to give, and what is said when it does not."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ct3d_edge.atomic import output_error
from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import format_bytes


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the system says about ``path`` into a sentence.

    Raises
    ------
    UsageError, OutputError, DiskError
        In place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise output_error(
            error,
            f"Cannot write {path}: {error.strerror or error}. Mend that or name another folder, then run the same "
            "command again: it goes on from what is there.",
        ) from error


def require_room(folder: Path, needed: int, what: str) -> None:
    """Refuse work that would fill the disk.

    Parameters
    ----------
    folder
        An existing folder on the disk in question.
    needed
        Bytes.
    what
        The work, as the beginning of a sentence.

    Raises
    ------
    UsageError
        If less is free.
    """
    with disk_errors(folder):
        free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(
            f"{what} takes {format_bytes(needed)} in {folder}, where {format_bytes(free)} are free. "
            "Free some or name another folder, then run the same command again."
        )


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that it holds, if it is there.

    Raises
    ------
    UsageError
        If that is not possible; a link is left alone.
    """
    if os.path.lexists(folder):
        with disk_errors(folder):
            shutil.rmtree(folder)
