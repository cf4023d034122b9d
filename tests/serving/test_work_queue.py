"""The bounded queue in front of the worker threads."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from ct3d_edge.serving.request_error import RequestError
from ct3d_edge.serving.work_queue import WorkQueue


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


async def never() -> None:
    await asyncio.Event().wait()


def test_admitted_requests_are_bounded_and_refused_ones_know_when_to_come_back() -> None:
    async def check() -> None:
        queue = WorkQueue(1, 1)
        with queue.admit(), queue.admit():
            assert (queue.receiving, queue.waiting, queue.running) == (2, 0, 0)
            with pytest.raises(RequestError) as error, queue.admit():
                pass
            assert (error.value.status, error.value.code) == (503, "queue_full")
            assert int(error.value.headers["Retry-After"]) >= 1
        with queue.admit():
            assert (await queue.run(lambda: 3, never()))[0] == 3
        assert queue.receiving == 0
        queue.close()

    run(check())


def test_work_waits_for_a_thread_and_errors_free_it() -> None:
    async def check() -> None:
        queue, release = WorkQueue(1, 4), threading.Event()

        async def request(wait: bool) -> float:
            with queue.admit():
                return (await queue.run(lambda: release.wait(20) if wait else 1 / 0, never()))[0]

        first, second = asyncio.create_task(request(True)), asyncio.create_task(request(False))
        await asyncio.sleep(0.05)
        assert (queue.receiving, queue.waiting, queue.running) == (0, 1, 1)
        release.set()
        assert await first
        with pytest.raises(ZeroDivisionError):
            await second
        assert (queue.receiving, queue.waiting, queue.running) == (0, 0, 0)
        queue.close()

    run(check())


def test_a_client_that_leaves_is_dropped_before_its_work_begins_and_never_during_it() -> None:
    async def check() -> None:
        queue, release = WorkQueue(1, 4), threading.Event()
        begun: list[int] = []

        def work(number: int) -> None:
            begun.append(number)
            release.wait(20)

        async def request(number: int) -> None:
            gone = asyncio.Event()
            gone.set()
            with queue.admit():
                await queue.run(lambda: work(number), gone.wait())

        first = asyncio.create_task(request(1))
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectionError):
            await request(2)
        assert not first.done()  # its files are in use
        release.set()
        await first
        assert begun == [1]
        queue.close()

    run(check())
