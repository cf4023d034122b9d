"""Planes of a scan file, read by a thread of its own while the caller works on those that are there."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

NUM_BUFFERS = 3
"""Planes in memory: one in the caller's hands, one being filled, one between them."""

SHUTDOWN_GRACE_S = 1.0
"""Seconds that the thread gets to end with the plane that it is at; a read that takes longer hangs."""

POLL_S = 0.1
"""Seconds between looks for Ctrl-C while waiting for a plane, where a wait cannot be broken (Windows)."""

FillFn = Callable[[memoryview], None]
Buffer = NDArray[np.uint8]
"""Bytes of a plane as they lie in the file."""


class PlanePrefetcher:
    """Buffers that go round between a thread that fills them and a caller who empties them, both in the same order.

    Nothing is copied on the way. A thread that hangs in a system call (a network drive that is gone) cannot be ended:
    it is left behind, and as a daemon does not keep the program from ending. When it wakes after all, it ends with the
    plane that it is at.

    Parameters
    ----------
    fill
        Fills a buffer with what comes next; called in the thread. What it raises is raised in the caller.
    count
        How often.
    finish
        Called in the thread behind the last of them.
    buffers
        Room for that, all of one size.
    """

    def __init__(self, fill: FillFn, count: int, finish: Callable[[], None], buffers: Iterable[Buffer]) -> None:
        self._free: queue.SimpleQueue[Buffer | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[Buffer | BaseException | None] = queue.SimpleQueue()
        self._stopped = False
        for buffer in buffers:
            self._free.put(buffer)
        self._thread = threading.Thread(
            target=self._work, args=(fill, count, finish), name="ct3d-edge read ahead", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have the thread end after the plane that it is at, and wait for that unless it hangs."""
        self._stopped = True
        self._free.put(None)
        self._thread.join(SHUTDOWN_GRACE_S)

    def planes(self) -> Iterator[Buffer]:
        """Each buffer as it is filled; the caller's until the next one is asked for."""
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

    def _work(self, fill: FillFn, count: int, finish: Callable[[], None]) -> None:
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
