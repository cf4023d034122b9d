"""Prepared scans on the disk: one .npy each, named after the scan's content and the contract, complete or not there.

An entry is a NumPy file of the network input with one line of JSON behind it: a checksum, and what preparing the
scan found. NumPy reads the array and leaves the line alone.
"""

import io
import json
import math
import shutil
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import ScanError, UsageError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.preprocessing import preprocess
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.quality_control.voxel_checks import arrangement_flags
from ct3d_edge.scan.loader import open_scan
from ct3d_edge.scan.qc_flag import current_code, raise_if_refused
from ct3d_edge.splits.split import ExcludedScan, SplitEntry
from ct3d_edge.system.atomic_write import PART_PREFIX, atomic_file, make_folder
from ct3d_edge.system.machine import count_usable_cores
from ct3d_edge.system.process_pool import map_in_processes

VERSION = 2
"""Raised when preparing the same scan under the same contract gives other numbers, or refuses it: earlier entries then
do not count."""

DIGITS = 16
"""Of each hash in a file's name; 64 bits distinguish more scans than there are."""

SCANS_PER_WORKER = 8
"""A process of its own starts in about the time that this many scans take."""

OLD_PART_SECONDS = 3600
"""A half-written file of this age belongs to a process that was killed: writing one takes well under a second."""


@dataclass(frozen=True)
class PreparedEntry:
    """One prepared scan: its file, and the codes of its flags except those that are only for the record."""

    file: Path
    flags: tuple[str, ...]


@dataclass(frozen=True)
class CachedInputs:
    """Prepared scans by path, and those that cannot be used."""

    entries: Mapping[str, PreparedEntry]
    unusable: tuple[ExcludedScan, ...]


@dataclass(frozen=True)
class _PrepareJob:
    entry: SplitEntry
    scan: Path
    target: Path
    contract: Contract


def prepare_cache(
    folder: Path,
    entries: Sequence[SplitEntry],
    contract: Contract,
    cache: Path,
    *,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> CachedInputs:
    """Prepare every scan into ``cache``; those that it holds already are not read again.

    Several processes may fill one cache at once, and may be killed at any time.

    Parameters
    ----------
    folder
        What the entries' paths are relative to; their content must be what their hashes say.
    cache
        Made if missing. It may hold entries of other scans and contracts, too.
    workers
        Processes; None for one per usable CPU, but none for a handful of scans. A script that gets here needs
        ``if __name__ == "__main__":``, unless with 1.
    progress
        Called after each scan, in this process.

    Raises
    ------
    UsageError
        If the disk has no room, the cache cannot be written, or worker processes cannot run.
    """
    make_folder(cache)
    remove_parts(cache, OLD_PART_SECONDS)
    done: dict[str, PreparedEntry] = {}
    unusable: list[ExcludedScan] = []
    jobs = []
    for entry in entries:
        target = entry_file(cache, entry.sha256, contract)
        flags = read_flags(target, contract.shape)
        if flags is None:
            jobs.append(_PrepareJob(entry, folder / entry.path, target, contract))
        else:
            done[entry.path] = PreparedEntry(target, flags)
            progress(len(done), len(entries), "Preparing scans")
    _require_room(cache, len(jobs), contract)
    count = workers or min(count_usable_cores(), len(jobs) // SCANS_PER_WORKER)
    for job, outcome in zip(jobs, map_in_processes(_prepare_one, jobs, count), strict=True):
        if isinstance(outcome, ExcludedScan):
            unusable.append(outcome)
        else:
            done[job.entry.path] = outcome
        progress(len(done) + len(unusable), len(entries), "Preparing scans")
    return CachedInputs(done, tuple(unusable))


def entry_file(cache: Path, sha256: str, contract: Contract) -> Path:
    """The file of a scan of this content, prepared under this contract."""
    return cache / f"{sha256[:DIGITS]}-{contract.sha256[:DIGITS]}-{VERSION}.npy"


def read_flags(path: Path, shape: tuple[int, int, int]) -> tuple[str, ...] | None:
    """Findings of a complete entry; None if there is no entry, or one that is damaged or of another shape or dtype."""
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    head = _header(shape)
    end = len(head) + math.prod(shape) * np.dtype(np.float32).itemsize
    if content[: len(head)] != head:
        return None
    try:
        note = json.loads(bytes(content[end:]))
        whole = note["crc32"] == zlib.crc32(content[len(head) : end])
        return tuple(current_code(str(code)) for code in note["findings"]) if whole else None
    except (ValueError, KeyError, TypeError):
        return None


def map_input(file: Path, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Map the network input of an entry, ``(W, H, D)`` float32, read-only. Many threads may do so at once.

    ``numpy.load`` parses the header with `ast.literal_eval`, which fails at random in threads before Python 3.11.8
    (python/cpython#106905).
    """
    return np.memmap(file, np.float32, "r", len(_header(shape)), shape)


def remove_parts(cache: Path, seconds: float = 0) -> None:
    """Remove half-written files, of this age at least, that killed processes left."""
    for part in cache.glob(f"{PART_PREFIX}*"):
        try:
            if time.time() - part.stat().st_mtime >= seconds:
                part.unlink()
        except OSError:  # another process was quicker, or owns it
            continue


def _prepare_one(job: _PrepareJob) -> PreparedEntry | ExcludedScan:
    """Read, prepare, write. An unusable scan is a result here: others go on, and its error must travel."""
    try:
        scan = open_scan(job.scan)
        prepared = preprocess(scan, job.contract)
        found = (*prepared.flags, *arrangement_flags(scan, prepared, job.contract))
        raise_if_refused(found)
    except ScanError as error:
        return ExcludedScan(job.entry.path, error.code, str(error), job.entry.sha256)
    flags = tuple(sorted({flag.code for flag in found if flag.severity != "ok"}))
    _write_entry(job.target, prepared.volume, flags)
    return PreparedEntry(job.target, flags)


def _write_entry(path: Path, volume: NDArray[np.float32], flags: tuple[str, ...]) -> None:
    note = {"crc32": zlib.crc32(volume.data), "findings": flags}
    with atomic_file(path) as stream:
        stream.write(_header(volume.shape))
        stream.write(volume.data)
        stream.write(json.dumps(note).encode() + b"\n")


def _header(shape: Sequence[int]) -> bytes:
    """How a .npy file of float32 in C order begins."""
    descr = np.lib.format.dtype_to_descr(np.dtype(np.float32))
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": tuple(shape)})
    return stream.getvalue()


def _require_room(cache: Path, count: int, contract: Contract) -> None:
    needed = count * math.prod(contract.shape) * np.dtype(np.float32).itemsize
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise UsageError(f"{count} prepared scans take {format_bytes(needed)}; {cache} has {format_bytes(free)} free.")
