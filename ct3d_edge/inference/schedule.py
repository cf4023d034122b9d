"""How many scans are worked on at the same time: from cores, memory, and where the network runs."""

from dataclasses import dataclass

from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import format_bytes, plural
from ct3d_edge.system.machine import count_usable_cores, read_available_memory

MEMORY_FRACTION = 0.5
"""Of the available memory, what a folder may take unless a budget is given."""

PREPARATION_MEMORY_FACTOR = 5
"""Memory of a scan being prepared, as a multiple of its network input: resized planes, samples, their turned copy."""


@dataclass(frozen=True)
class Schedule:
    """How a folder is worked through.

    Parameters
    ----------
    workers
        Threads that read and prepare scans. 0: one scan after the other, in the caller's thread.
    predict_in_workers
        Whether each of them runs its scan through the network too. On a CPU that keeps the cores busier than sharing
        each network run among them (bench/README.md); a GPU is fed by one thread, in batches.
    threads
        Of the session, for one run.
    prefetch
        Scans begun before the first of them is asked for.
    batch
        Scans in one run of the network.
    """

    workers: int
    predict_in_workers: bool
    threads: int
    prefetch: int
    batch: int

    def describe(self) -> str:
        """One line for people."""
        if not self.workers:
            return f"one scan after the other, {_format_threads(self.threads)}"
        if self.predict_in_workers:
            return f"{plural(self.workers, 'scan')} at a time, {_format_threads(self.threads)} each"
        return f"{self.workers} reading ahead, batches of {self.batch}"


def _format_threads(count: int) -> str:
    return plural(count, "thread")


@dataclass(frozen=True)
class MemoryEstimate:
    """What the work costs, in bytes: ``prepared`` of one network input, ``run`` of one volume in the network."""

    prepared: int
    run: int
    on_cpu: bool


def make_schedule(
    needs: MemoryEstimate,
    scans: int | None = None,
    *,
    workers: int | None = None,
    batch: int = 1,
    budget: int | None = None,
) -> Schedule:
    """Choose a plan.

    Parameters
    ----------
    scans
        How many there are; None if nobody knows yet.
    workers
        Scans worked on at the same time; from cores and memory if None.
    batch
        Scans in one run of the network.
    budget
        Bytes that the scans in flight may take; half of the available memory if None, or more if one scan takes more.

    Raises
    ------
    UsageError
        If workers or batch are below 1, or the budget given cannot be kept: by the batch, by that many workers, by a
        single scan.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"At least one worker is needed, found `workers={workers}`.")
    if batch < 1:
        raise UsageError(f"A batch holds at least one scan, found `batch_size={batch}`.")
    given, budget = budget, _default_budget() if budget is None else budget
    _require_batch_fits(needs, batch, budget)
    cores, reading = count_usable_cores(), PREPARATION_MEMORY_FACTOR * needs.prepared
    if given is not None:
        side_by_side = workers or 1 if needs.on_cpu and batch == 1 and scans != 1 else 1
        _require_within_budget(needs, batch, side_by_side, given)
    if scans == 1:
        return Schedule(0, False, cores, 0, 1)
    if needs.on_cpu and batch == 1:
        lanes = workers or max(1, min(cores, scans or cores, budget // (needs.run + reading)))
        if lanes > 1:
            return Schedule(lanes, True, max(1, cores // lanes), 2 * lanes, 1)
    readers = workers or max(1, min(cores - 1, scans or cores))
    room = max(1, (budget - _batch_bytes(needs, batch)) // reading)
    return Schedule(min(readers, room), False, cores, max(1, min(batch + readers, room)), batch)


def _default_budget() -> int:
    available = read_available_memory()
    return 4 << 30 if available is None else int(MEMORY_FRACTION * available)


def _batch_bytes(needs: MemoryEstimate, batch: int) -> int:
    """Memory of this machine that a batch takes; on a GPU only its inputs do, as they are and stacked."""
    return batch * (needs.run if needs.on_cpu else 2 * needs.prepared)


def _require_batch_fits(needs: MemoryEstimate, batch: int, budget: int) -> None:
    if batch > 1 and _batch_bytes(needs, batch) > budget:
        fits = max(1, budget // _batch_bytes(needs, 1))
        raise UsageError(
            f"A batch of {batch:,} scans takes about {format_bytes(_batch_bytes(needs, batch))}; the budget is "
            f"{format_bytes(budget)}. Use `batch_size={fits}` or less, or raise `max_memory`."
        )


def _require_within_budget(needs: MemoryEstimate, batch: int, workers: int, budget: int) -> None:
    """A budget that was asked for holds, or nothing is run."""
    one = _batch_bytes(needs, batch) + PREPARATION_MEMORY_FACTOR * needs.prepared
    if workers * one <= budget:
        return
    said = "One scan takes" if batch == workers == 1 else f"{plural(workers * batch, 'scan')} at a time take"
    hint = f"Use `workers={budget // one}` or less, or raise" if one <= budget else "Raise"
    raise UsageError(
        f"{said} about {format_bytes(workers * one)}; the budget is {format_bytes(budget)}. {hint} `max_memory`."
    )
