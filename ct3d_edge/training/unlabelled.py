"""Scans without a class: found in a folder, prepared like those of the split, and put among its training scans."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError
from ct3d_edge.formatting import list_names
from ct3d_edge.progress import Progress, no_progress
from ct3d_edge.scan.discovery import find_scans
from ct3d_edge.splits.folder import hash_scans, refuse_unusable_scans
from ct3d_edge.splits.prepared_cache import prepare_cache
from ct3d_edge.splits.split import ExcludedScan, Split, SplitEntry
from ct3d_edge.training.data import ScanArrays, VolumeFiles, remove_prepared

NO_CLASS = "unlabelled"
"""In the place of a class folder."""


@dataclass(frozen=True)
class UnlabelledScans:
    """Scans of a folder whose class is unknown.

    Parameters
    ----------
    folder
        What their paths are relative to.
    entries
        The scans, by path.
    """

    folder: Path
    entries: tuple[SplitEntry, ...]

    @property
    def sha256(self) -> str:
        """Of their content hashes, a line each."""
        return hashlib.sha256("".join(f"{entry.sha256}\n" for entry in self.entries).encode()).hexdigest()


def find_unlabelled(
    folder: Path,
    split: Split,
    tested: Collection[str] = (),
    *,
    skip_bad: bool = False,
    progress: Progress = no_progress,
) -> UnlabelledScans:
    """Find the scans of a folder, each content once, without those that the split trains on already.

    Parameters
    ----------
    split
        Of the labelled scans.
    tested
        Content hashes of the teacher's test scans.

    Raises
    ------
    UsageError
        There is no such folder, or no scan in it.
    DatasetError
        Test or validation scans are among them, or scans cannot be read.
    """
    paths = sorted(path.relative_to(folder).as_posix() for path in find_scans([folder], name_by_uid=True))
    found = hash_scans(folder, paths, progress)
    if not skip_bad:
        refuse_unusable_scans(found.unreadable, len(paths))
    unseen = {*tested, *(entry.sha256 for entry in split.validation + split.test)}
    leaked = [path for path, sha in found.sha256.items() if sha in unseen]
    if leaked:
        raise DatasetError(
            f"Test or validation scans among the unlabelled ones in {folder}: {len(leaked)} (same content): "
            f"{list_names(leaked)}. Remove them."
        )
    used = {entry.sha256 for entry in split.train}
    first: dict[str, str] = {}
    for path, sha in found.sha256.items():
        if sha not in used:
            first.setdefault(sha, path)
    entries = tuple(SplitEntry(path=path, label=NO_CLASS, sha256=sha, subset="train") for sha, path in first.items())
    return UnlabelledScans(folder, entries)


@contextmanager
def prepare_unlabelled(
    scans: UnlabelledScans, contract: Contract, cache: Path, progress: Progress, *, keep: bool, skip_bad: bool
) -> Iterator[dict[str, Path]]:
    """Prepare them as `ct3d_edge.training.data.prepare_scans` does; yields the file of each path."""
    try:
        prepared = prepare_cache(scans.folder, scans.entries, contract, cache, progress=progress)
        unusable: tuple[ExcludedScan, ...] = prepared.unusable
        if not skip_bad:
            refuse_unusable_scans(unusable, len(scans.entries))
        usable = [entry.path for entry in scans.entries if entry.path in prepared.entries]
        yield {path: prepared.entries[path].file for path in usable}
    finally:
        if not keep:
            remove_prepared(cache, scans.entries, contract)


def insert_labels(arrays: ScanArrays, names: Sequence[str], labels: NDArray[np.float32]) -> ScanArrays:
    """Add scans behind the training scans, with the labels that a teacher gives them."""
    count = len(arrays.split.train)
    every = np.concatenate([arrays.labels[:count], labels, arrays.labels[count:]]).astype(np.float32)
    return replace(arrays, labels=every, unlabelled=tuple(names))


def insert_files(volumes: VolumeFiles, files: Sequence[Path], after: int) -> VolumeFiles:
    """Put files behind the first ``after`` ones."""
    return replace(volumes, files=(*volumes.files[:after], *files, *volumes.files[after:]))
