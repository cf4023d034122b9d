"""A fixed number of worker threads, and a bounded number of requests that wait for them."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
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
        Requests that may wait while all threads are busy.
    """

    def __init__(self, workers: int, capacity: int) -> None:
        self._workers, self._capacity = workers, capacity
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ct3d-edge serve")
        self._admitted, self._mean_s = 0, 1.0

    @property
    def running(self) -> int:
        """Requests being worked on."""
        return min(self._admitted, self._workers)

    @property
    def waiting(self) -> int:
        """Requests that wait for a thread."""
        return self._admitted - self.running

    def require_capacity(self) -> None:
        """Refuse a request while the queue is full, so that no body is read for nothing.

        Raises
        ------
        RequestError
            503, with ``Retry-After`` from the mean duration of a request.
        """
        if self._admitted >= self._workers + self._capacity:
            seconds = max(1, math.ceil(self._mean_s * (self._capacity + 1) / self._workers))
            raise RequestError(
                503,
                "queue_full",
                f"{self.running} requests are running and {self.waiting} waiting. Try again in {seconds} s.",
                {"Retry-After": str(seconds)},
            )

    async def run(self, work: Callable[[], T], disconnected: Awaitable[object]) -> tuple[T, float]:
        """Wait for a thread and do the work; its result, and the seconds that it waited.

        Parameters
        ----------
        disconnected
            Completes when the client is gone; work that has not begun is then dropped, with ``ConnectionError``.

        Raises
        ------
        RequestError
            503 if the queue is full. Errors of the work are raised unchanged.
        """
        self.require_capacity()
        self._admitted += 1
        asked, begun = time.perf_counter(), 0.0

        def timed() -> T:
            nonlocal begun
            begun = time.perf_counter()
            return work()

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
            self._admitted -= 1

    def close(self) -> None:
        """Wait for the work that runs; drop what has not begun."""
        self._pool.shutdown(cancel_futures=True)
