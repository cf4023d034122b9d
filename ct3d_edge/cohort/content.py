"""The contents of a folder's scans, hashed side by side."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ct3d_edge.cohort.progress import OnHashed, ScanHashed, silent
from ct3d_edge.cohort.split import LeftOut
from ct3d_edge.errors import ScanError
from ct3d_edge.machine import usable_cores
from ct3d_edge.scan import content_sha256


@dataclass(frozen=True)
class Contents:
    """SHA-256 of scans by path, and those whose bytes cannot be read."""

    sha256: Mapping[str, str]
    unreadable: tuple[LeftOut, ...]


def hash_scans(folder: Path, scans: Sequence[str], on_hashed: OnHashed = silent) -> Contents:
    """Hash scans side by side.

    Parameters
    ----------
    scans
        Paths relative to ``folder``.
    on_hashed
        Receives a `ScanHashed` after each scan, in order, in this thread.
    """
    known: dict[str, str] = {}
    unreadable = []
    # Threads are enough: hashing and reading both let go of the interpreter's lock.
    with ThreadPoolExecutor(usable_cores()) as pool:
        for done, (scan, found) in enumerate(zip(scans, pool.map(partial(_try, folder), scans), strict=True), 1):
            if isinstance(found, str):
                known[scan] = found
            else:
                unreadable.append(LeftOut(scan, found.code, str(found)))
            on_hashed(ScanHashed(done, len(scans), scan))
    return Contents(known, tuple(unreadable))


def _try(folder: Path, scan: str) -> str | ScanError:
    try:
        return content_sha256(folder / scan)
    except ScanError as error:
        return error
