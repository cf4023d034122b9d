"""Read planes of a scan file in a second thread while the caller processes earlier ones."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

NUM_BUFFERS = 3
"""Planes in memory: one in use by the caller, one being filled, one waiting."""

SHUTDOWN_GRACE_S = 1.0
"""Seconds that the thread gets at shutdown to finish its current plane; a read that takes longer hangs."""

POLL_S = 0.1
"""Seconds between checks for Ctrl-C while waiting for a plane, as Windows cannot interrupt a wait."""

FillFn = Callable[[memoryview], None]
Buffer = NDArray[np.uint8]
"""Bytes of a plane as stored in the file."""


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
