"""A volume file of any format but DICOM: its planes as a stream, read ahead by a thread, or a `Volume` in memory."""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.formatting import format_bytes
from ct3d_edge.scan.gzip_reader import ScanReader, no_cancellation
from ct3d_edge.scan.qc_flag import QCFlag
from ct3d_edge.scan.volume import Scan, Volume, VolumeHeader
from ct3d_edge.system.machine import count_usable_cores, read_available_memory

MAX_MEMORY_FRACTION = 0.5
"""Share of the available memory that the voxels of one scan may take."""


TRAILING_BYTES_FLAG = QCFlag(
    "trailing_bytes", "warn", "Other data follow the compressed voxels, whose checksum matches; they were not read."
)

NUM_BUFFERS = 3
"""Planes in memory: one in use by the caller, one being filled, one waiting."""

SHUTDOWN_GRACE_S = 1.0
"""Seconds that the thread gets at shutdown to finish its current plane; a read that takes longer hangs."""

POLL_S = 0.1
"""Seconds between checks for Ctrl-C while waiting for a plane, as Windows cannot interrupt a wait."""

FillFn = Callable[[memoryview], None]
Buffer = NDArray[np.uint8]
"""Bytes of a plane as stored in the file."""


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


class PlanePrefetcher:
    """A ring of buffers that one thread fills and the caller consumes in the same order, without a copy.

    A thread that hangs in a system call (a network drive that is gone) cannot be ended. It is abandoned; as a daemon
    thread it does not prevent the program from ending. If the call returns, the thread ends after its current plane.

    Parameters
    ----------
    fill
        Fills a buffer with the next plane; called in the thread. Its exceptions are raised in the caller.
    count
        Number of planes.
    finish
        Called in the thread after the last plane.
    buffers
        Reused in turn, all of one size.
    """

    def __init__(self, fill: FillFn, count: int, finish: Callable[[], None], buffers: Iterable[Buffer]) -> None:
        self._free: queue.SimpleQueue[Buffer | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[Buffer | BaseException | None] = queue.SimpleQueue()
        self._stopped = False
        for buffer in buffers:
            self._free.put(buffer)
        self._thread = threading.Thread(
            target=self._run_thread, args=(fill, count, finish), name="ct3d-edge read ahead", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End the thread after its current plane; wait up to `SHUTDOWN_GRACE_S` for it."""
        self._stopped = True
        self._free.put(None)
        self._thread.join(SHUTDOWN_GRACE_S)

    def planes(self) -> Iterator[Buffer]:
        """Yield each filled buffer; it is valid until the next iteration."""
        while isinstance(buffer := self._next(), np.ndarray):
            yield buffer
            self._free.put(buffer)
        if buffer is not None:
            raise buffer

    def _next(self) -> Buffer | BaseException | None:
        while True:
            try:
                return self._full.get(timeout=POLL_S)
            except queue.Empty:
                continue

    def _run_thread(self, fill: FillFn, count: int, finish: Callable[[], None]) -> None:
        outcome: BaseException | None = None
        try:
            for _ in range(count):
                buffer = self._free.get()
                if buffer is None or self._stopped:
                    return
                fill(buffer.data)
                self._full.put(buffer)
            finish()
        except BaseException as error:
            outcome = error
        self._full.put(outcome)
