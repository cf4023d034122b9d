"""A thread pool that works on scans in parallel and yields their results in the order of the scans.

Threads are enough: reading, decompressing, preprocessing and the network all release the interpreter's lock. They are
daemon threads, because a thread that hangs in a system call (a network drive that is gone) cannot be ended, and must
not prevent the program from ending.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from ct3d_edge.errors import UnreadableScanError
from ct3d_edge.inference.prepare import IN_MEMORY_NAME

Item = TypeVar("Item")
"""A scan: its path, or a volume in memory."""
Result = TypeVar("Result")
CheckCancelled = Callable[[], None]
TaskFn = Callable[[Item, CheckCancelled], Result]
"""Works on one scan; calls its second argument regularly, which raises when the work has to end."""

TIMEOUT_GRACE_S = 0.5
"""Seconds beyond its time limit after which the thread of a scan is abandoned."""

SHUTDOWN_GRACE_S = 5.0
"""Seconds that threads get to end at shutdown: a run of the network cannot be interrupted."""

POLL_S = 0.1
"""Seconds between checks of the clock while waiting; Ctrl-C on Windows may be delayed by as much."""


class TaskCancelled(BaseException):
    """Raised in the work on a scan at shutdown; not a failure of the scan."""


class _Task(Generic[Item, Result]):
    """The work on one scan, and its result or error."""

    def __init__(self, item: Item, timeout_s: float | None, stop: threading.Event) -> None:
        self.item = item
        self.timeout_s = timeout_s
        self.done = threading.Event()
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._stop = stop
        self._started_at: float | None = None
        self._lock = threading.Lock()
        self._abandoned = False

    def run(self, work: TaskFn[Item, Result]) -> bool:
        """Do the work; False if the task was abandoned meanwhile."""
        self._started_at = time.monotonic()
        try:
            self.check_cancelled()
            self.result = work(self.item, self.check_cancelled)
        except BaseException as error:
            self.error = error
        with self._lock:
            self.done.set()
            return not self._abandoned

    def check_cancelled(self) -> None:
        if self._stop.is_set():
            raise TaskCancelled
        if self.is_overdue(0):
            raise timeout_error(self.item, self.timeout_s)

    def is_overdue(self, grace_s: float) -> bool:
        """Whether the work has exceeded its time limit by more than ``grace_s`` seconds."""
        if self.timeout_s is None or self._started_at is None:
            return False
        return time.monotonic() - self._started_at > self.timeout_s + grace_s

    def abandon(self) -> bool:
        """Stop waiting for the result; False if the work has ended in the meantime."""
        with self._lock:
            self._abandoned = not self.done.is_set()
            return self._abandoned


class OrderedThreadPool(Generic[Item, Result]):
    """A thread pool for one function; results keep the order of the items.

    Parameters
    ----------
    work
        Called for each scan, in any of the threads.
    on_timeout
        Returns the result of a scan that exceeded ``timeout_s`` and whose thread hangs.
    workers
        Number of threads.
    prefetch
        Scans in progress or waiting for the caller at the same time; at least ``workers``.
    timeout_s
        Time limit of the work on one scan, in seconds; no limit if None.
    """

    def __init__(
        self,
        work: TaskFn[Item, Result],
        on_timeout: Callable[[Item], Result],
        *,
        workers: int,
        prefetch: int,
        timeout_s: float | None = None,
    ) -> None:
        self._work, self._on_timeout = work, on_timeout
        self._workers, self._prefetch, self._timeout_s = workers, max(prefetch, workers), timeout_s
        self._stop = threading.Event()
        self._queue: queue.SimpleQueue[_Task[Item, Result] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def results(self, items: Iterable[Item]) -> Generator[Result, None, None]:
        """Yield the result of each scan in the order of the scans. Call it once.

        An error of the work is raised here. Closing the iterator ends the threads.
        """
        waiting: deque[_Task[Item, Result]] = deque()
        upcoming = iter(items)
        try:
            for _ in range(self._workers):
                self._start_worker()
            while True:
                while len(waiting) < self._prefetch and (item := next(upcoming, None)) is not None:
                    waiting.append(_Task(item, self._timeout_s, self._stop))
                    self._queue.put(waiting[-1])
                if not waiting:
                    return
                yield self._wait_for(waiting.popleft())
        finally:
            self._shutdown()

    def _wait_for(self, task: _Task[Item, Result]) -> Result:
        while not task.done.wait(POLL_S):
            if task.is_overdue(TIMEOUT_GRACE_S) and task.abandon():
                self._start_worker()
                return self._on_timeout(task.item)
        if task.error is not None:
            raise task.error
        return task.result  # type: ignore[return-value]  # set where there is no error

    def _start_worker(self) -> None:
        thread = threading.Thread(target=self._run_worker, name="ct3d-edge scan", daemon=True)
        self._threads = [other for other in self._threads if other.is_alive()] + [thread]
        thread.start()

    def _run_worker(self) -> None:
        while (task := self._queue.get()) is not None:
            if not task.run(self._work):
                return  # another thread has replaced this one
            del task  # its result may be large, and the next scan may come late

    def _shutdown(self) -> None:
        """Cancel the tasks, and wait up to `SHUTDOWN_GRACE_S` for the threads to end."""
        self._stop.set()
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + SHUTDOWN_GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def run_with_timeout(timeout_s: float | None, work: TaskFn[Item, Result], item: Item) -> Result:
    """Do the work on one scan with a time limit, which holds even if the work hangs in a system call.

    Raises
    ------
    UnreadableScanError
        ``timeout``. Errors of the work are raised unchanged.
    """

    def on_timeout(item: Item) -> Result:
        raise timeout_error(item, timeout_s)

    (result,) = OrderedThreadPool(work, on_timeout, workers=1, prefetch=1, timeout_s=timeout_s).results([item])
    return result


def timeout_error(item: object, timeout_s: float | None) -> UnreadableScanError:
    """The error of a scan that took too long."""
    name = item.name if isinstance(item, Path) else IN_MEMORY_NAME
    return UnreadableScanError("timeout", f"{name} was not finished within {timeout_s:g} s.")
