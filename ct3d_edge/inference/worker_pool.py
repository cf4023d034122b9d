"""Threads that work on scans side by side and hand over their results in the order of the scans.

Threads are enough: reading, decompressing, preprocessing and the network all let go of the interpreter's lock. They
are daemons, because one that hangs inside a system call (a network drive that is gone) cannot be ended, and must not
keep the program from ending.
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
"""A scan: its path, or the scan itself."""
Result = TypeVar("Result")
CheckCancelled = Callable[[], None]
TaskFn = Callable[[Item, CheckCancelled], Result]
"""Works on one scan and calls the second argument now and then, which raises when the work should end."""

TIMEOUT_GRACE_S = 0.5
"""Seconds that a scan gets beyond its limit to end by itself before its thread is given up."""

SHUTDOWN_GRACE_S = 5.0
"""Seconds that threads get to end when nobody wants their results any more: a run of the network cannot be broken."""

POLL_S = 0.1
"""Seconds between looks at the clock while waiting; also what Ctrl-C may have to wait for on Windows."""


class TaskCancelled(BaseException):
    """Raised inside the work on a scan whose result nobody wants any more; no failure of the scan."""


class _Task(Generic[Item, Result]):
    """One scan in a crew's hands."""

    def __init__(self, item: Item, seconds: float | None, stop: threading.Event) -> None:
        self.item = item
        self.seconds = seconds
        self.done = threading.Event()
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._stop = stop
        self._begun: float | None = None
        self._lock = threading.Lock()
        self._abandoned = False

    def run(self, work: TaskFn[Item, Result]) -> bool:
        """Do the work; whether somebody still waits for it at the end."""
        self._begun = time.monotonic()
        try:
            self.on_block()
            self.result = work(self.item, self.on_block)
        except BaseException as error:
            self.error = error
        with self._lock:
            self.done.set()
            return not self._abandoned

    def on_block(self) -> None:
        if self._stop.is_set():
            raise TaskCancelled
        if self.is_overdue(0):
            raise timeout_error(self.item, self.seconds)

    def is_overdue(self, patience: float) -> bool:
        """Whether the work has begun and taken longer than it may."""
        if self.seconds is None or self._begun is None:
            return False
        return time.monotonic() - self._begun > self.seconds + patience

    def abandon(self) -> bool:
        """Stop waiting; False if it has just ended after all."""
        with self._lock:
            self._abandoned = not self.done.is_set()
            return self._abandoned


class OrderedThreadPool(Generic[Item, Result]):
    """Some threads and one kind of work.

    Parameters
    ----------
    work
        What is done with each scan, in any of the threads.
    late
        The result of a scan that took longer than ``seconds`` and cannot be ended.
    workers
        Threads.
    ahead
        Scans begun before the first of them is asked for; at least as many as workers are kept busy.
    seconds
        How long the work on one scan may take; for ever if None.
    """

    def __init__(
        self,
        work: TaskFn[Item, Result],
        late: Callable[[Item], Result],
        *,
        workers: int,
        ahead: int,
        seconds: float | None = None,
    ) -> None:
        self._work, self._on_timeout = work, late
        self._workers, self._prefetch, self._seconds = workers, max(ahead, workers), seconds
        self._stop = threading.Event()
        self._queue: queue.SimpleQueue[_Task[Item, Result] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def results(self, items: Iterable[Item]) -> Generator[Result, None, None]:
        """Yield the result of each scan in the order of the scans; to be called once.

        What the work raises is raised here. Whoever stops early closes the iterator, and the threads end.
        """
        waiting: deque[_Task[Item, Result]] = deque()
        upcoming = iter(items)
        try:
            for _ in range(self._workers):
                self._start_worker()
            while True:
                while len(waiting) < self._prefetch and (item := next(upcoming, None)) is not None:
                    waiting.append(_Task(item, self._seconds, self._stop))
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
                return  # another thread has taken this one's place
            del task  # its result may be large, and the next scan long in coming

    def _shutdown(self) -> None:
        """Have the threads drop what they do, and wait a moment for those that can."""
        self._stop.set()
        for _ in self._threads:
            self._queue.put(None)
        deadline = time.monotonic() + SHUTDOWN_GRACE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def run_with_timeout(seconds: float | None, work: TaskFn[Item, Result], item: Item) -> Result:
    """Do the work on one scan, and give it up after that many seconds even if it hangs in a system call.

    Raises
    ------
    UnreadableScanError
        ``timeout``; else what the work raises.
    """

    def late(item: Item) -> Result:
        raise timeout_error(item, seconds)

    (result,) = OrderedThreadPool(work, late, workers=1, ahead=1, seconds=seconds).results([item])
    return result


def timeout_error(item: object, seconds: float | None) -> UnreadableScanError:
    """The error of a scan that took too long."""
    name = item.name if isinstance(item, Path) else IN_MEMORY_NAME
    return UnreadableScanError("timeout", f"{name} was not finished within {seconds:g} s.")
