"""What this machine can do at most: a matrix product and a copy, both by NumPy, on so many threads."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ct3d_edge.system.process_pool import map_in_processes

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
"""Where the libraries behind NumPy's matrix product look, when they are loaded and not later."""

MATRIX_SIDE = 2048
COPY_BYTES = 1 << 28
"""Beyond the caches of any CPU: memory is what is measured."""

REPEATS = 7


@dataclass(frozen=True)
class PeakPerformance:
    """The most that was seen.

    Parameters
    ----------
    gflops
        Billions of float32 operations a second in a matrix product.
    gb_per_s
        Billions of bytes a second, read and written, in a copy.
    threads
        Of both.
    """

    gflops: float
    gb_per_s: float
    threads: int

    def min_times_ms(self, flops: float, moved_bytes: float) -> tuple[float, float]:
        """Times that arithmetic and memory would take at the ceilings, in ms."""
        return flops / self.gflops / 1e6, moved_bytes / self.gb_per_s / 1e6

    def elementwise_max(self, other: "PeakPerformance") -> "PeakPerformance":
        """The higher one of each: other work on the machine only ever lowers what is seen."""
        return PeakPerformance(max(self.gflops, other.gflops), max(self.gb_per_s, other.gb_per_s), self.threads)


def measure_peak_performance(threads: int, *, side: int = MATRIX_SIDE, copied: int = COPY_BYTES) -> PeakPerformance:
    """Measure in a process of its own: how many threads a matrix product has is settled when NumPy is imported.

    Parameters
    ----------
    side
        Of the square matrices.
    copied
        Bytes of the array that is copied.
    """
    with _thread_variables(threads):
        (found,) = map_in_processes(_measure, [(threads, side, copied)], 1, afresh=True)
    return found


def _measure(job: tuple[int, int, int]) -> PeakPerformance:
    threads, side, copied = job
    return PeakPerformance(_product_gflops(side), _copy_gb_per_s(threads, copied), threads)


def _product_gflops(side: int) -> float:
    draw = np.random.default_rng(0)
    one, other = (draw.random((side, side), np.float32) for _ in range(2))
    result = np.empty_like(one)
    return 2 * side**3 / _fastest_s(lambda: np.matmul(one, other, out=result)) / 1e9


def _copy_gb_per_s(threads: int, copied: int) -> float:
    source, target = np.ones(copied, np.uint8), np.zeros(copied, np.uint8)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:  # NumPy lets other threads run while it copies

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(part[1], part[0]), parts))

        return 2 * copied / _fastest_s(copy) / 1e9


def _fastest_s(work: Callable[[], object]) -> float:
    """Seconds of the fastest of some runs: what a ceiling is."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


@contextmanager
def _thread_variables(threads: int) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
