"""Read NIfTI files, as a stream of planes or as a `Volume` in memory.

nibabel does not read the voxels, because its arrays scale to float64 and because it accepts files with a wrong
checksum.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.scan.gzip_reader import ScanReader, no_cancellation
from ct3d_edge.scan.nifti_header import header_and_voxel_paths, read_nifti_header
from ct3d_edge.scan.prefetch import NUM_BUFFERS, Buffer, PlanePrefetcher
from ct3d_edge.scan.volume import Scan, Volume
from ct3d_edge.system.machine import count_usable_cores, read_available_memory

MAX_MEMORY_FRACTION = 0.5
"""Share of the available memory that the voxels of one scan may take."""


class NiftiScan(Scan):
    """A NIfTI file with its header; planes are streamed from the file on each call.

    At most three planes are in memory. If there is a second core, another thread decompresses them.

    Parameters
    ----------
    path
        A .nii, .nii.gz, .hdr or .img file, recognised by content.
    check_cancelled
        Called after each plane; its exception ends the reading.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        See `read_nifti_header`; also if the voxels are missing, or the file is too small for them.
    """

    def __init__(self, path: Path | str, check_cancelled: Callable[[], None] = no_cancellation) -> None:
        start = time.perf_counter()
        self.path, self._check_cancelled = Path(path), check_cancelled
        self._header = header = read_nifti_header(self.path)
        self.slope, self.intercept = header.slope, header.intercept
        self.affine, self.flags = header.affine, header.flags
        with ScanReader(self._voxel_path) as stream:  # before memory is allocated for the size in the header
            self._require_capacity(stream)
        self.reading_ms = (time.perf_counter() - start) * 1e3

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along ``(i, j, k)``; axes of length one behind the third are dropped."""
        return self._header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """How voxels are stored, byte order included."""
        return self._header.dtype

    def planes(self, needed: Iterable[int]) -> Iterator[NDArray[Any]]:
        """Stream planes of constant ``k``, each ``(j, i)`` of the stored dtype, overwritten by the next one.

        Parameters
        ----------
        needed
            Their ``k``, increasing. A compressed file, or one in an archive, is read to its end to compare its
            checksum; of other files only these planes are read.

        Raises
        ------
        UnreadableScanError
            The voxels are truncated or damaged, or need too much memory.
        """
        i, j, _ = self.shape
        selected = set(needed)
        with self._voxels() as stream:
            start = time.perf_counter()
            for index, plane in (
                self._all_planes(stream) if stream.has_checksum else self._selected_planes(stream, sorted(selected))
            ):
                self.reading_ms += (time.perf_counter() - start) * 1e3
                self._check_cancelled()
                if index in selected:
                    yield plane.view(self.dtype).reshape(j, i)
                start = time.perf_counter()
            self.reading_ms += (time.perf_counter() - start) * 1e3

    def _all_planes(self, stream: ScanReader) -> Iterator[tuple[int, Buffer]]:
        """All planes in order, in buffers that are reused; compares the checksum at the end."""
        i, j, k = self.shape
        if count_usable_cores() > 1:
            buffers = self._allocate(NUM_BUFFERS * i * j).reshape(NUM_BUFFERS, -1)
            with PlanePrefetcher(stream.fill, k, stream.finish, buffers) as prefetcher:
                yield from enumerate(prefetcher.planes())
            return
        plane = self._allocate(i * j)
        for index in range(k):
            stream.fill(plane.data)
            yield index, plane
        stream.finish()

    def _selected_planes(self, stream: ScanReader, selected: Iterable[int]) -> Iterator[tuple[int, Buffer]]:
        """Planes of a file that is not compressed."""
        i, j, _ = self.shape
        plane, position = self._allocate(i * j), 0
        for index in selected:
            stream.skip((index - position) * plane.nbytes)
            stream.fill(plane.data)
            position = index + 1
            yield index, plane

    def load(self) -> Volume:
        """Read all voxels into memory, in the stored dtype and byte order.

        Raises
        ------
        UnreadableScanError
            As `planes`.
        """
        with self._voxels() as stream:
            raw = self._allocate(math.prod(self.shape))
            stream.fill(raw.data)
            stream.finish()
        stored = raw.view(self.dtype).reshape(self.shape, order="F")
        return Volume(stored, self.slope, self.intercept, self.affine, self.flags)

    @property
    def _voxel_path(self) -> Path:
        return header_and_voxel_paths(self.path)[1]

    def _voxels(self) -> ScanReader:
        """The voxel file, open at the first voxel."""
        stream = ScanReader(self._voxel_path)
        try:
            self._require_capacity(stream)
            stream.skip(self._header.offset)
        except BaseException:
            stream.close()
            raise
        return stream

    def _require_capacity(self, stream: ScanReader) -> None:
        size = math.prod(self.shape) * self.dtype.itemsize
        if self._header.offset + size > stream.capacity:
            raise UnreadableScanError(
                "truncated",
                f"{stream.path.name} declares {size:,} bytes of voxels; its {stream.size:,} bytes cannot contain them.",
            )

    def _allocate(self, voxels: int) -> NDArray[np.uint8]:
        """A buffer for voxels; raises if it is too large, which a small compressed file can require."""
        size, available = voxels * self.dtype.itemsize, read_available_memory()
        if available is not None and size > MAX_MEMORY_FRACTION * available:
            raise UnreadableScanError(
                "too_large",
                f"{self.path.name} needs {format_bytes(size)} for its voxels; {format_bytes(available)} are free.",
            )
        return np.empty(size, np.uint8)


def read_nifti(path: Path | str) -> Volume:
    """Read one scan into memory; see `NiftiScan` and `NiftiScan.load`."""
    return NiftiScan(path).load()
