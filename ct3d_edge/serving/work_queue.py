"""A fixed number of worker threads, and a bounded number of requests that wait for them."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from ct3d_edge.serving.request_error import RequestError

T = TypeVar("T")

SMOOTHING = 0.2
"""Weight of the last work in the running mean of its duration."""


class WorkQueue:
    """Runs blocking work of requests in threads. Used from the event loop only.

    Parameters
    ----------
    workers
        Threads.
    capacity
        Further requests that are admitted while all threads are busy.
    """

    def __init__(self, workers: int, capacity: int) -> None:
        self._workers, self._capacity = workers, capacity
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ct3d-edge serve")
        self._admitted, self._submitted, self._mean_s = 0, 0, 1.0

    @property
    def running(self) -> int:
        """Requests being worked on."""
        return min(self._submitted, self._workers)

    @property
    def waiting(self) -> int:
        """Requests whose body is complete and which wait for a thread."""
        return self._submitted - self.running

    @property
    def receiving(self) -> int:
        """Requests whose body is being received."""
        return self._admitted - self._submitted

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Admit a request before its body is read, so that no body is read for nothing, and their number is bounded.

        Raises
        ------
        RequestError
            503 if there are too many, with ``Retry-After`` from the mean duration of the work.
        """
        if self._admitted >= self._workers + self._capacity:
            seconds = max(1, math.ceil(self._mean_s * (self._capacity + 1) / self._workers))
            raise RequestError(
                503,
                "queue_full",
                f"Requests that run: {self.running}; that wait or are received: {self.waiting + self.receiving}. "
                f"Try again in {seconds} s.",
                {"Retry-After": str(seconds)},
            )
        self._admitted += 1
        try:
            yield
        finally:
            self._admitted -= 1

    async def run(self, work: Callable[[], T], disconnected: Awaitable[object]) -> tuple[T, float]:
        """Wait for a thread and do the work of an admitted request; its result, and the seconds that it waited.

        Errors of the work are raised unchanged.

        Parameters
        ----------
        disconnected
            Completes when the client is gone; work that has not begun is then dropped, with ``ConnectionError``.
        """
        asked, begun = time.perf_counter(), 0.0

        def timed() -> T:
            nonlocal begun
            begun = time.perf_counter()
            return work()

        self._submitted += 1
        future = asyncio.wrap_future(job := self._pool.submit(timed))
        gone = asyncio.ensure_future(disconnected)
        awaited: set[asyncio.Future[Any]] = {future, gone}
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            if not future.done() and job.cancel():
                raise ConnectionError("the client closed the connection")
            result = await asyncio.shield(future)  # the work uses the request's files: they stay until it ends
            self._mean_s += SMOOTHING * (time.perf_counter() - begun - self._mean_s)
            return result, begun - asked
        finally:
            gone.cancel()
            self._submitted -= 1

    def close(self) -> None:
        """Wait for the work that runs; drop what has not begun."""
        self._pool.shutdown(cancel_futures=True)
