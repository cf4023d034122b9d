"""Workers as threads of one process: each waits for the others on its own port."""

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from ct3d_edge.errors import UsageError
from ct3d_edge.training.distributed.strategy import Cluster, wait_for_workers
from ct3d_edge.training.progress import Event, WaitingForWorkers

Free = Callable[[int], tuple[str, ...]]


@pytest.fixture
def free() -> Free:
    """Give a function that names so many addresses of this machine that are free now."""

    def addresses(count: int) -> tuple[str, ...]:
        with ExitStack() as doors:
            opened = [doors.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
            return tuple(f"127.0.0.1:{door.getsockname()[1]}" for door in opened)

    return addresses


def test_workers_meet_and_the_first_says_whom_it_waits_for(free: Free) -> None:
    workers = free(3)
    events: list[Event] = []
    others: list[threading.Thread] = []

    def start_one_more(event: Event) -> None:
        events.append(event)
        other = threading.Thread(target=wait_for_workers, args=(Cluster(workers, len(events)), 60))
        other.start()
        others.append(other)

    wait_for_workers(Cluster(workers, 0), 60, start_one_more)
    for other in others:
        other.join()
    assert events == [WaitingForWorkers(workers[1:]), WaitingForWorkers(workers[2:])]


def test_their_ports_are_free_again(free: Free) -> None:
    workers = free(2)
    other = threading.Thread(target=wait_for_workers, args=(Cluster(workers, 1), 60))
    other.start()
    wait_for_workers(Cluster(workers, 0), 60)
    other.join()
    for worker in workers:
        host, _, port = worker.partition(":")
        socket.create_server((host, int(port))).close()


def test_a_worker_that_does_not_come_is_named(free: Free) -> None:
    workers = free(2)
    with pytest.raises(UsageError, match=rf"Worker 0 waited 0.1 s for {workers[1]}\. Start the same command there"):
        wait_for_workers(Cluster(workers, 0), 0.1)


def test_another_program_on_the_port_is_not_a_worker(free: Free) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        workers = (*free(1), f"127.0.0.1:{stranger.getsockname()[1]}")
        thread = threading.Thread(target=_hang_up, args=(stranger,))
        thread.start()
        with pytest.raises(UsageError, match=f"waited 0.1 s for {workers[1]}"):
            wait_for_workers(Cluster(workers, 0), 0.1)
        thread.join()


def _hang_up(stranger: socket.socket) -> None:
    stranger.accept()[0].close()


def test_a_port_that_is_taken(free: Free) -> None:
    with socket.create_server(("", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"This worker is to listen on {address}, but cannot: Address already in"):
            wait_for_workers(Cluster((address, *free(1)), 0), 60)
