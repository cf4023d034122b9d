"""Choose how many scans run in parallel from cores, memory, and the device of the network."""

from dataclasses import dataclass

from ct3d_edge.errors import UsageError
from ct3d_edge.formatting import format_bytes, plural
from ct3d_edge.system.machine import count_usable_cores, read_available_memory

MEMORY_FRACTION = 0.5
"""Share of the available memory that the scans of a folder may take by default."""

PREPARATION_MEMORY_FACTOR = 5
"""Memory of a scan in preprocessing over that of its network input: resized planes, samples, reoriented copy."""


@dataclass(frozen=True)
class Schedule:
    """How many scans run in parallel, and where the network runs on them.

    Parameters
    ----------
    workers
        Threads that read and preprocess scans. 0: one scan after the other, in the caller's thread.
    predict_in_workers
        Whether each worker also runs the network on its scan. On a CPU that is faster than dividing each run among the
        cores (bench/README.md); a GPU runs batches from one thread.
    threads
        Threads of the session for one run.
    prefetch
        Scans in progress or waiting for the network at the same time.
    batch
        Scans in one run of the network.
    """

    workers: int
    predict_in_workers: bool
    threads: int
    prefetch: int
    batch: int

    def describe(self) -> str:
        """The schedule in one line."""
        if not self.workers:
            return f"one scan after the other, {_format_threads(self.threads)}"
        if self.predict_in_workers:
            return f"{plural(self.workers, 'scan')} at a time, {_format_threads(self.threads)} each"
        return f"{self.workers} reading ahead, batches of {self.batch}"


def _format_threads(count: int) -> str:
    return plural(count, "thread")


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one network input and of one run of the network; and whether that memory is the CPU's."""

    input_bytes: int
    run_bytes: int
    on_cpu: bool


def make_schedule(
    estimate: MemoryEstimate,
    scans: int | None = None,
    *,
    workers: int | None = None,
    batch: int = 1,
    max_memory: int | None = None,
) -> Schedule:
    """Choose a schedule within the memory limit.

    Parameters
    ----------
    scans
        Number of scans; None if unknown.
    workers
        Scans in parallel; from cores and memory if None.
    batch
        Scans in one run of the network.
    max_memory
        Bytes that the scans in progress may take; half of the available memory if None, or more if one scan takes more.

    Raises
    ------
    UsageError
        If workers or batch are below 1, or if the batch, that many workers or a single scan need more than the given
        ``max_memory``.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"At least one worker is needed, found `workers={workers}`.")
    if batch < 1:
        raise UsageError(f"A batch has at least one scan, found `batch_size={batch}`.")
    budget = _default_max_memory() if max_memory is None else max_memory
    _require_batch_fits(estimate, batch, budget)
    cores, preparation_bytes = count_usable_cores(), PREPARATION_MEMORY_FACTOR * estimate.input_bytes
    if max_memory is not None:
        parallel = workers or 1 if estimate.on_cpu and batch == 1 and scans != 1 else 1
        _require_within_budget(estimate, batch, parallel, max_memory)
    if scans == 1:
        return Schedule(0, False, cores, 0, 1)
    if estimate.on_cpu and batch == 1:
        parallel_scans = workers or max(
            1, min(cores, scans or cores, budget // (estimate.run_bytes + preparation_bytes))
        )
        if parallel_scans > 1:
            return Schedule(parallel_scans, True, max(1, cores // parallel_scans), 2 * parallel_scans, 1)
    readers = workers or max(1, min(cores - 1, scans or cores))
    fitting = max(1, (budget - _batch_bytes(estimate, batch)) // preparation_bytes)
    return Schedule(min(readers, fitting), False, cores, max(1, min(batch + readers, fitting)), batch)


def _default_max_memory() -> int:
    available = read_available_memory()
    return 4 << 30 if available is None else int(MEMORY_FRACTION * available)


def _batch_bytes(estimate: MemoryEstimate, batch: int) -> int:
    """Bytes of main memory that a batch takes; for a GPU those of its inputs, single and stacked."""
    return batch * (estimate.run_bytes if estimate.on_cpu else 2 * estimate.input_bytes)


def _require_batch_fits(estimate: MemoryEstimate, batch: int, budget: int) -> None:
    if batch > 1 and _batch_bytes(estimate, batch) > budget:
        fits = max(1, budget // _batch_bytes(estimate, 1))
        raise UsageError(
            f"A batch of {batch:,} scans takes about {format_bytes(_batch_bytes(estimate, batch))}; the memory "
            f"limit is {format_bytes(budget)}. Use `batch_size={fits}` or less, or raise `max_memory`."
        )


def _require_within_budget(estimate: MemoryEstimate, batch: int, workers: int, budget: int) -> None:
    """Raise if the scans in progress need more than the given limit."""
    per_worker = _batch_bytes(estimate, batch) + PREPARATION_MEMORY_FACTOR * estimate.input_bytes
    if workers * per_worker <= budget:
        return
    subject = "One scan takes" if batch == workers == 1 else f"{plural(workers * batch, 'scan')} at a time take"
    hint = f"Use `workers={budget // per_worker}` or less, or raise" if per_worker <= budget else "Raise"
    raise UsageError(
        f"{subject} about {format_bytes(workers * per_worker)}; the memory limit is {format_bytes(budget)}. "
        f"{hint} `max_memory`."
    )
