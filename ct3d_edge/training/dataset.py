"""Scans become network inputs once, on disk; training then streams them, so that memory stays flat."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from ct3d_edge.contract import Contract
from ct3d_edge.errors import DatasetError, ScanError, UsageError
from ct3d_edge.preprocess import preprocess
from ct3d_edge.scan import read_nifti
from ct3d_edge.training.progress import OnProgress, ScanRead, silent
from ct3d_edge.training.split import Split

CACHE_FILE = "volumes-{}.npy"
"""With the process's number: two runs into one folder must not write into each other's arrays."""

PREFETCHED_BATCHES = 2
"""One in work, one ready: reading 4 MiB from the page cache is far quicker than a training step."""


@dataclass(frozen=True, eq=False)
class ScanArrays:
    """Prepared scans with their labels.

    Parameters
    ----------
    volumes
        ``(N, W, H, D)`` float32 in [0, 1], read-only memory map; training scans first, as in ``Split.scans``.
    labels
        ``(N,)`` float32, the class index.
    findings
        How many scans have each finding, by its code; those that are only for the record are left out.
    """

    volumes: NDArray[np.float32]
    labels: NDArray[np.float32]
    findings: Mapping[str, int]


@contextmanager
def prepared_scans(
    folder: Path, split: Split, contract: Contract, cache: Path, on_progress: OnProgress = silent
) -> Iterator[ScanArrays]:
    """Prepare every scan of a split under a contract; the arrays last as long as the ``with`` block.

    Parameters
    ----------
    folder
        What the paths in ``split`` are relative to.
    cache
        Folder for the memory-mapped file, made if missing; removed at the end if nothing else is in it.
    on_progress
        Receives a `ScanRead` after each scan.

    Raises
    ------
    DatasetError
        If scans cannot be read or prepared: all of them, by name.
    UsageError
        If the disk has no room for the arrays, or they cannot be written.
    """
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / CACHE_FILE.format(os.getpid())
    try:
        _require_room(cache, len(split.scans), contract)
        try:
            findings = _write_volumes(path, folder, split, contract, on_progress)
        except OSError as error:  # of this file: those of scans are ScanErrors
            raise UsageError(f"Cannot write {path}: {error.strerror or error}.") from error
        labels = np.array([split.label_of(scan) for scan in split.scans], np.float32)
        yield ScanArrays(np.load(path, mmap_mode="r"), labels, findings)
    finally:
        _remove(path)


def batches(
    arrays: ScanArrays, rows: Sequence[int], batch_size: int, *, shuffle_seed: int | None = None
) -> tf.data.Dataset:
    """Stream rows as pairs of ``(B, W, H, D, 1)`` and ``(B, 1)`` float32; the last batch may be short.

    Parameters
    ----------
    rows
        Indices along the first axis.
    batch_size
        Scans at a time.
    shuffle_seed
        Draws a new order of all rows in each epoch; None keeps their order.
    """
    _, *shape = arrays.volumes.shape

    def load(row: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return arrays.volumes[row][..., np.newaxis], arrays.labels[row : row + 1]

    def sample(row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        volume, label = tf.numpy_function(load, [row], [tf.float32, tf.float32])
        return tf.ensure_shape(volume, (*shape, 1)), tf.ensure_shape(label, (1,))

    order = tf.data.Dataset.from_tensor_slices(np.asarray(rows, np.int64))
    if shuffle_seed is not None:
        order = order.shuffle(len(rows), seed=shuffle_seed, reshuffle_each_iteration=True)
    return order.map(sample).batch(batch_size).prefetch(PREFETCHED_BATCHES)


def _write_volumes(
    path: Path, folder: Path, split: Split, contract: Contract, on_progress: OnProgress
) -> Mapping[str, int]:
    """Write the .npy file volume by volume; return the number of scans with each finding."""
    findings: Counter[str] = Counter()
    unusable: dict[str, ScanError] = {}
    total = len(split.scans)
    with path.open("wb") as stream:
        _write_header(stream, (total, *contract.shape))
        for done, scan in enumerate(split.scans, start=1):
            try:
                prepared = preprocess(read_nifti(folder / scan), contract)
            except ScanError as error:
                unusable[scan] = error
            else:
                # Written, not stored into a map: a full disk is an error here and a killed process there.
                stream.write(prepared.volume.data)
                findings.update({finding.code for finding in prepared.findings if finding.severity != "ok"})
            on_progress(ScanRead(done, total, scan))
    _require_all_usable(unusable, total)
    return findings


def _write_header(stream: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(stream, header)


def _require_all_usable(unusable: Mapping[str, ScanError], total: int) -> None:
    if not unusable:
        return
    lines = [f"  {scan}: {error}" for scan, error in unusable.items()]
    raise DatasetError("\n".join([f"{len(unusable)} of {total} scans cannot be used. Mend or remove them:", *lines]))


def _require_room(cache: Path, count: int, contract: Contract) -> None:
    needed = count * int(np.prod(contract.shape)) * np.dtype(np.float32).itemsize
    free = shutil.disk_usage(cache).free
    if needed > free:
        raise UsageError(f"{count} prepared scans take {needed / 1e9:.1f} GB; {cache} has {free / 1e9:.1f} GB free.")


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except PermissionError:  # Windows keeps a file that is still mapped; the next run overwrites it
        return
    if not any(path.parent.iterdir()):
        path.parent.rmdir()
