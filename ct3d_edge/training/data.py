"""The scans of a run: their split, and network inputs that are prepared once on disk and mapped from there."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import UsageError
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.splits.create import VALIDATION_FRACTION, create_split
from ct3d_edge.splits.folder import refuse_unusable_scans, verify_folder
from ct3d_edge.splits.prepared_cache import CachedInputs, entry_file, map_input, prepare_cache, remove_parts
from ct3d_edge.splits.split import ExcludedScan, Split, SplitEntry, require_every_class
from ct3d_edge.splits.split_file import read_split


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
        """One scan as a read-only memory map, opened for this one use: a map that stays open costs an open file."""
        return map_input(self.files[row], self.size)


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
        How many scans have each quality flag, by its code; those of severity "ok" are left out.
    split
        Without the scans that turned out to be unusable.
    unlabelled
        Paths of training scans that are not in the split, behind those that are.
    """

    volumes: VolumeSource
    labels: NDArray[np.float32]
    flags: Mapping[str, int]
    split: Split
    unlabelled: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Path of each scan."""
        train, validation = ([entry.path for entry in part] for part in (self.split.train, self.split.validation))
        return (*train, *self.unlabelled, *validation)

    @property
    def training_count(self) -> int:
        """How many of the first scans are for training."""
        return len(self.split.train) + len(self.unlabelled)


def choose_split(
    folder: Path,
    file: Path | None,
    fold: int | None,
    validation: float | None,
    seed: int,
    skip_bad: bool,
    progress: Progress,
) -> tuple[Split, tuple[ExcludedScan, ...]]:
    """Draw a split, or read it from a file; return it with the scans that cannot be read.

    For the parameters see `ct3d_edge.training.fit.train`.

    Raises
    ------
    UsageError
        If options contradict each other, or the file has no such fold.
    DatasetError
        If ``folder`` cannot be split, or is not that of the file.
    """
    if file is None:
        if fold is not None:
            raise UsageError("A fold belongs to a split file: give one (`split=`).")
        share = VALIDATION_FRACTION if validation is None else validation
        # Bad scans are left out here in any case: preparing the others names them all at once.
        drawn = create_split(folder, seed=seed, validation=share, skip_bad=True, progress=progress)
        return drawn, drawn.left_out
    if validation is not None:
        raise UsageError("The validation share is that of the split file; name one or the other.")
    split = read_split(file)
    split = split if fold is None else split.for_fold(fold)
    require_every_class(split)
    return verify_folder(split, folder, ("train", "validation"), skip_bad=skip_bad, progress=progress), ()


@contextmanager
def prepare_scans(
    folder: Path,
    split: Split,
    contract: Contract,
    cache: Path,
    progress: Progress = no_progress,
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
    progress
        Called after each scan.
    keep
        Leave the prepared scans in ``cache`` for another run. Otherwise they last as long as the ``with`` block,
        and so does the folder if nothing else is in it.
    skip_bad
        Go on without scans that cannot be used; they are in ``split.left_out`` of what is yielded.
    unreadable
        Scans already known to be unusable, to be named together with the others.
    workers
        Processes, see `prepare_cache`.

    Raises
    ------
    DatasetError
        If scans cannot be read or prepared: all of them, by name. With ``skip_bad``, if a class is left without.
    UsageError
        If the disk has no room for them, or they cannot be written.
    """
    entries = split.train + split.validation
    try:
        prepared = prepare_cache(folder, entries, contract, cache, workers=workers, progress=progress)
        if not skip_bad:
            refuse_unusable_scans(unreadable + prepared.unusable, len(entries) + len(unreadable))
        yield _arrays(split.without(prepared.unusable), prepared, contract)
    finally:
        if not keep:
            remove_prepared(cache, split.entries, contract)


def _arrays(split: Split, prepared: CachedInputs, contract: Contract) -> ScanArrays:
    require_every_class(split)
    entries = split.train + split.validation
    files = tuple(prepared.entries[entry.path].file for entry in entries)
    labels = np.array([split.label_of(entry) for entry in entries], np.float32)
    flags = Counter(code for entry in entries for code in prepared.entries[entry.path].flags)
    return ScanArrays(VolumeFiles(files, contract.shape), labels, flags, split)


def remove_prepared(cache: Path, entries: Sequence[SplitEntry], contract: Contract) -> None:
    """Remove prepared scans, and the folder if nothing else is in it."""
    if not cache.is_dir():
        return
    try:
        for entry in entries:
            entry_file(cache, entry.sha256, contract).unlink(missing_ok=True)
    except PermissionError:  # Windows keeps a file that is still mapped; the next run uses it
        return
    remove_parts(cache)
    if not any(cache.iterdir()):
        cache.rmdir()
