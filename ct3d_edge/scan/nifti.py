"""NIfTI files: a path becomes a scan whose planes are streamed, or a `Volume` in memory.

The voxels are read here and not by nibabel, because its arrays scale to float64 and because it accepts files whose
checksum is wrong.
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
"""Of the available memory, what one scan's voxels may take."""


class NiftiScan(Scan):
    """A NIfTI file whose header has been read and whose planes can be streamed, each time from the file.

    Memory stays at three planes. Compressed ones are decoded by a thread of its own, where there is a core for it.

    Parameters
    ----------
    path
        A .nii, .nii.gz, .hdr or .img file, recognised by content.
    check_cancelled
        Called after each plane that was read; what it raises ends the reading.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        See `read_nifti_header`; also if the voxels are missing, or the file is too small for them.
    """

    def __init__(self, path: Path | str, check_cancelled: Callable[[], None] = no_cancellation) -> None:
        start = time.perf_counter()
        self.path, self._on_block = Path(path), check_cancelled
        self._header = header = read_nifti_header(self.path)
        self.slope, self.intercept = header.slope, header.intercept
        self.affine, self.flags = header.affine, header.flags
        with ScanReader(self._voxel_path) as stream:  # before anybody makes room for what the header promises
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
            Their ``k``, increasing. A compressed file is read to its end all the same, so that its checksum is
            compared; of others only these planes are read.

        Raises
        ------
        UnreadableScanError
            The voxels are truncated or damaged, or would take the machine's memory.
        """
        i, j, _ = self.shape
        wanted = set(needed)
        with self._voxels() as stream:
            start = time.perf_counter()
            for index, plane in (
                self._all_planes(stream) if stream.compressed else self._selected_planes(stream, sorted(wanted))
            ):
                self.reading_ms += (time.perf_counter() - start) * 1e3
                self._on_block()
                if index in wanted:
                    yield plane.view(self.dtype).reshape(j, i)
                start = time.perf_counter()
            self.reading_ms += (time.perf_counter() - start) * 1e3

    def _all_planes(self, stream: ScanReader) -> Iterator[tuple[int, Buffer]]:
        """All planes in turn, each overwritten later, and then the checksum."""
        i, j, k = self.shape
        if count_usable_cores() > 1:
            buffers = self._allocate(NUM_BUFFERS * i * j).reshape(NUM_BUFFERS, -1)
            with PlanePrefetcher(stream.fill, k, stream.finish, buffers) as ahead:
                yield from enumerate(ahead.planes())
            return
        plane = self._allocate(i * j)
        for index in range(k):
            stream.fill(plane.data)
            yield index, plane
        stream.finish()

    def _selected_planes(self, stream: ScanReader, wanted: Iterable[int]) -> Iterator[tuple[int, Buffer]]:
        """Planes of a file that is not compressed."""
        i, j, _ = self.shape
        plane, position = self._allocate(i * j), 0
        for index in wanted:
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
                f"{stream.path.name} promises {size:,} bytes of voxels; its {stream.size:,} bytes cannot hold them.",
            )

    def _allocate(self, voxels: int) -> NDArray[np.uint8]:
        """Room for voxels; a small compressed file may ask for more than would leave the machine alive."""
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
