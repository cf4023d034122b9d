"""The same work on many things in processes of their own, which neither outlive nor hang the program."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from ct3d_edge.errors import WorkerError

Job = TypeVar("Job")
Result = TypeVar("Result")


def map_in_processes(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int, *, afresh: bool = False
) -> Iterator[Result]:
    """Yield the result of each job, in the order of the jobs.

    Parameters
    ----------
    work
        A function of a module (it travels by its name); what it takes, gives and raises must be picklable.
    workers
        Processes; with one, or one job, everything runs in this process. More are started afresh ("spawn"), so a
        script that gets here needs ``if __name__ == "__main__":``.
    afresh
        Start a process even for one worker or one job, so that nothing of this one's memory is in it.

    Raises
    ------
    WorkerError
        If a process ended before its work did.
    """
    workers = min(workers, len(jobs))
    if not jobs or (workers <= 1 and not afresh):
        yield from map(work, jobs)
        return
    # fork would copy the threads' locks of whatever the caller has loaded (a deep learning library, say).
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_init_worker) as pool:
        try:
            yield from pool.map(work, jobs)
        except BrokenProcessPool as error:
            raise WorkerError(
                "A worker process ended early: out of memory, or the calling script cannot be imported afresh. "
                'Put its calls under `if __name__ == "__main__":`, or ask for one worker.'
            ) from error


def _init_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it: a pool's processes would wait for a killed parent for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
