"""A volume file of any format but DICOM: its header, and its voxels as a stream of planes or a `Volume` in memory."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import RefusedScanError, UnreadableScanError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.scan.gzip_reader import Encoding, ScanReader, no_cancellation
from ct3d_edge.scan.prefetch import NUM_BUFFERS, Buffer, PlanePrefetcher
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import Scan, Volume
from ct3d_edge.system.machine import count_usable_cores, read_available_memory

MAX_MEMORY_FRACTION = 0.5
"""Share of the available memory that the voxels of one scan may take."""


TRAILING_BYTES_FLAG = QCFlag(
    "trailing_bytes", "warn", "Other data follow the compressed voxels, whose checksum matches; they were not read."
)

MAX_AXIS_LENGTH = 32767
"""Voxels along an axis; the limit of NIfTI-1. Larger planes would take too long to process."""


@dataclass(frozen=True, eq=False)
class VolumeHeader:
    """The validated header of a volume file.

    Parameters
    ----------
    shape, dtype
        ``(i, j, k)`` voxels, and how each is stored, byte order included.
    voxel_path, start, encoding
        File and byte at which the stream of voxels begins, and how it is compressed.
    offset
        Byte of that stream (decompressed) at which the voxels begin.
    affine
        ``(4, 4)`` float64, voxel indices to RAS+ millimetres, or None if the file has none.
    flags
        Quality flags of the header.
    slope, intercept
        ``HU = stored * slope + intercept``.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    voxel_path: Path
    offset: int
    affine: NDArray[np.float64] | None
    flags: tuple[QCFlag, ...]
    slope: float = 1.0
    intercept: float = 0.0
    start: int = 0
    encoding: Encoding = "auto"

    @property
    def voxel_bytes(self) -> int:
        """Size of all voxels."""
        return math.prod(self.shape) * self.dtype.itemsize


def require_volume_shape(sizes: Sequence[int], name: str) -> tuple[int, int, int]:
    """``(i, j, k)`` of the sizes in a header; further axes must have length one.

    Raises
    ------
    UnreadableScanError
        ``bad_header`` for sizes that no volume has.
    RefusedScanError
        ``two_dimensional``, ``multiple_volumes``, ``single_slice``.
    """
    if not 1 <= len(sizes) <= 7 or min(sizes) < 1 or max(sizes[:3]) > MAX_AXIS_LENGTH:
        raise UnreadableScanError("bad_header", f"{name} has impossible dimensions {list(sizes)}.")
    if len(sizes) < 3:
        raise RefusedScanError(
            "two_dimensional", f"{name} is a single image of {_format_shape(sizes)} pixels, not a volume."
        )
    if math.prod(sizes[3:]) > 1:
        raise RefusedScanError(
            "multiple_volumes",
            f"{name} contains {math.prod(sizes[3:])} volumes. Split it into one file each.",
        )
    if min(sizes[:3]) < 2:
        raise RefusedScanError(
            "single_slice", f"{name} has only one slice ({_format_shape(sizes[:3])} voxels), not a volume."
        )
    i, j, k = sizes[:3]
    return i, j, k


def _format_shape(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


class StreamedScan(Scan):
    """A volume file with its header; planes are streamed from the file on each call.

    At most three planes are in memory. If there is a second core, another thread decompresses them.

    Parameters
    ----------
    path
        The file.
    read_header
        Reads its header.
    check_cancelled
        Called after each plane; its exception ends the reading.

    Raises
    ------
    UnreadableScanError, RefusedScanError
        See ``read_header``; also if the voxels are missing, or the file is too small for them.
    """

    def __init__(
        self,
        path: Path | str,
        read_header: Callable[[Path], VolumeHeader],
        check_cancelled: Callable[[], None] = no_cancellation,
    ) -> None:
        start = time.perf_counter()
        self.path, self._check_cancelled = Path(path), check_cancelled
        self._header = header = read_header(self.path)
        self.slope, self.intercept = header.slope, header.intercept
        self.affine, self.flags = header.affine, header.flags
        with self._open_voxels() as stream:  # before memory is allocated for the size in the header
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
            self._flag_trailing_bytes(stream)

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
            self._flag_trailing_bytes(stream)
        stored = raw.view(self.dtype).reshape(self.shape, order="F")
        return Volume(stored, self.slope, self.intercept, self.affine, (*self.flags, *self.reading_flags))

    def _flag_trailing_bytes(self, stream: ScanReader) -> None:
        self.reading_flags = (TRAILING_BYTES_FLAG,) if stream.has_trailing_bytes else ()

    def _open_voxels(self) -> ScanReader:
        return ScanReader(self._header.voxel_path, self._header.start, self._header.encoding)

    def _voxels(self) -> ScanReader:
        """The voxel file, open at the first voxel."""
        stream = self._open_voxels()
        try:
            self._require_capacity(stream)
            stream.skip(self._header.offset)
        except BaseException:
            stream.close()
            raise
        return stream

    def _require_capacity(self, stream: ScanReader) -> None:
        size = self._header.voxel_bytes
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
