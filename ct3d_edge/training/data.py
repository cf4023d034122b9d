"""Scans become network inputs once, on disk, and are mapped from there, so that memory stays flat."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.splits.folder import refuse_unusable_scans
from ct3d_edge.splits.prepared_cache import CachedInputs, entry_file, prepare_cache, remove_parts
from ct3d_edge.splits.split import ExcludedScan, Split, require_every_class
from ct3d_edge.training.progress import OnProgress, ignore_event


class VolumeSource(Protocol):
    """Prepared scans by row; a NumPy array ``(N, W, H, D)`` is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, W, H, D)``."""

    def __getitem__(self, row: int, /) -> NDArray[np.float32]:
        """One scan, ``(W, H, D)`` float32 in [0, 1]."""


@dataclass(frozen=True)
class VolumeFiles:
    """Prepared scans in one .npy file each.

    Parameters
    ----------
    files
        By row.
    size
        ``(W, H, D)``.
    """

    files: tuple[Path, ...]
    size: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """``(N, W, H, D)``."""
        return (len(self.files), *self.size)

    def __getitem__(self, row: int, /) -> NDArray[np.float32]:
        """One scan as a read-only memory map, opened for this one use: a map kept costs an open file."""
        volume: NDArray[np.float32] = np.load(self.files[row], mmap_mode="r")
        return volume


@dataclass(frozen=True, eq=False)
class ScanArrays:
    """Prepared scans with their labels.

    Parameters
    ----------
    volumes
        Training scans first, then validation, in the order of the split.
    labels
        ``(N,)`` float32, the class index.
    flags
        How many scans have each finding, by its code; those that are only for the record are left out.
    split
        Without the scans that turned out to be unusable.
    """

    volumes: VolumeSource
    labels: NDArray[np.float32]
    flags: Mapping[str, int]
    split: Split


@contextmanager
def prepared_scans(
    folder: Path,
    split: Split,
    contract: Contract,
    cache: Path,
    on_progress: OnProgress = ignore_event,
    *,
    keep: bool = False,
    skip_bad: bool = False,
    unreadable: tuple[ExcludedScan, ...] = (),
    workers: int | None = None,
) -> Iterator[ScanArrays]:
    """Prepare the training and validation scans of a split; the test subset is not read.

    Parameters
    ----------
    folder
        What the paths in ``split`` are relative to.
    cache
        Folder for one memory-mapped file a scan, made if missing; what it holds already is used.
    on_progress
        Receives a `ScanRead` after each scan.
    keep
        Leave the prepared scans in ``cache`` for another run. Otherwise they last as long as the ``with`` block,
        and so does the folder if nothing else is in it.
    skip_bad
        Go on without scans that cannot be used; they are in ``split.left_out`` of what is yielded.
    unreadable
        Scans known to be unusable before, to be named together with the others.
    workers
        Processes, see `ct3d_edge.cohort.prepare_cache`.

    Raises
    ------
    DatasetError
        If scans cannot be read or prepared: all of them, by name. With ``skip_bad``, if a class is left without.
    UsageError
        If the disk has no room for them, or they cannot be written.
    """
    entries = split.train + split.validation
    try:
        made = prepare_cache(folder, entries, contract, cache, workers=workers, on_read=on_progress)
        if not skip_bad:
            refuse_unusable_scans(unreadable + made.unusable, len(entries) + len(unreadable))
        yield _arrays(split.without(made.unusable), made, contract)
    finally:
        if not keep:
            _remove(cache, split, contract)


def _arrays(split: Split, prepared: CachedInputs, contract: Contract) -> ScanArrays:
    require_every_class(split)
    entries = split.train + split.validation
    files = tuple(prepared.entries[entry.path].file for entry in entries)
    labels = np.array([split.label_of(entry) for entry in entries], np.float32)
    flags = Counter(code for entry in entries for code in prepared.entries[entry.path].flags)
    return ScanArrays(VolumeFiles(files, contract.shape), labels, flags, split)


def _remove(cache: Path, split: Split, contract: Contract) -> None:
    """Remove the prepared scans of this split, and the folder if nothing else is in it."""
    if not cache.is_dir():
        return
    try:
        for entry in split.entries:
            entry_file(cache, entry.sha256, contract).unlink(missing_ok=True)
    except PermissionError:  # Windows keeps a file that is still mapped; the next run uses it
        return
    remove_parts(cache)
    if not any(cache.iterdir()):
        cache.rmdir()
