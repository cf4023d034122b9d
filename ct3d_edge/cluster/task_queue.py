"""Which worker has which scan, and what happens to the scan of a worker that dies. Knows nothing of Ray."""

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

Worker = TypeVar("Worker", bound=Hashable)

MAX_DEATHS = 2
"""Workers that may die on one scan: the second death is blamed on the scan."""


class TaskQueue(Generic[Worker]):
    """Scans of a run: waiting, in progress on a worker (one each), or done.

    Parameters
    ----------
    scans
        Paths, in the order in which they are begun.
    """

    def __init__(self, scans: Iterable[str]) -> None:
        self._waiting = deque(scans)
        self._in_progress: dict[Worker, str] = {}
        self._deaths: dict[str, int] = {}

    @property
    def is_empty(self) -> bool:
        """Whether every scan is done."""
        return not self._waiting and not self._in_progress

    @property
    def waiting(self) -> int:
        """Scans that no worker has."""
        return len(self._waiting)

    def assign(self, worker: Worker) -> str | None:
        """Give a free worker the next scan; None if none is waiting."""
        if not self._waiting:
            return None
        self._in_progress[worker] = self._waiting.popleft()
        return self._in_progress[worker]

    def finish(self, worker: Worker) -> str:
        """Note that a worker is done with its scan, and return the scan."""
        return self._in_progress.pop(worker)

    def lose(self, worker: Worker, *, scan_may_be_the_cause: bool = True) -> str | None:
        """Note that a worker is gone: its scan waits again, behind all others.

        Parameters
        ----------
        scan_may_be_the_cause
            Not where the whole machine has left, or the worker has ended for a reason of its own.

        Returns
        -------
        str or None
            The scan, if it has now cost `MAX_DEATHS` workers: it is done, and has no prediction.
        """
        scan = self._in_progress.pop(worker, None)
        if scan is None:
            return None
        self._deaths[scan] = self._deaths.get(scan, 0) + scan_may_be_the_cause
        if self._deaths[scan] >= MAX_DEATHS:
            return scan
        self._waiting.append(scan)
        return None
