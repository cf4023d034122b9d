"""Memory and energy that work costs, as far as system and GPU report them."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct3d_edge.system.machine import read_system_file


@dataclass(frozen=True)
class GpuReading:
    """All GPUs of this machine together, whoever uses them: in a container NVML cannot assign memory to processes.

    Parameters
    ----------
    used_bytes
        Memory in use.
    joules
        Energy since the driver was loaded; None where a GPU does not count it (before Volta).
    """

    used_bytes: int
    joules: float | None


def read_gpus() -> GpuReading | None:
    """Read all GPUs; None without a driver, a GPU, or the package (it comes with the extra ``cuda``)."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        with _nvml(pynvml) as gpus:
            used = [int(pynvml.nvmlDeviceGetMemoryInfo(gpu).used) for gpu in gpus]
            return GpuReading(sum(used), _joules(pynvml, gpus)) if used else None
    except pynvml.NVMLError:
        return None


@contextmanager
def _nvml(pynvml: Any) -> Iterator[list[Any]]:
    pynvml.nvmlInit()
    try:
        yield [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _joules(pynvml: Any, gpus: list[Any]) -> float | None:
    try:
        return sum(int(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)) for gpu in gpus) / 1e3  # NVML counts in mJ
    except pynvml.NVMLError_NotSupported:
        return None


STATM = Path("/proc/self/statm")
STATUS = Path("/proc/self/status")
POWERCAP = Path("/sys/class/powercap")


def read_resident_bytes() -> int | None:
    """Memory of this process that is in RAM now (proc_pid_statm(5)); None where the system does not report it."""
    fields = (read_system_file(STATM) or "").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else None


def read_peak_bytes() -> int | None:
    """Most memory of this process that ever was in RAM at once (VmHWM of proc_pid_status(5))."""
    match = re.search(r"^VmHWM:\s*(\d+) kB$", read_system_file(STATUS) or "", re.MULTILINE)
    return int(match[1]) * 1024 if match else None


@dataclass(frozen=True)
class EnergyReading:
    """Energy counters of the CPU packages (RAPL, through Linux' powercap), in microjoules.

    Parameters
    ----------
    counts
        Package to its counter.
    ranges
        Package to the value at which its counter begins again at zero.
    """

    counts: Mapping[str, int]
    ranges: Mapping[str, int]

    def joules_to(self, later: "EnergyReading") -> float:
        """Energy between two readings, which no counter may have gone round in more than once."""
        spent = 0
        for package, count in self.counts.items():
            grown = later.counts[package] - count
            spent += grown if grown >= 0 else grown + self.ranges[package]
        return spent / 1e6


def read_energy() -> EnergyReading | None:
    """Read the counters of all packages; None where there are none, or only an administrator may read them."""
    packages = sorted(path for path in POWERCAP.glob("intel-rapl:*") if path.name.count(":") == 1)
    counts, ranges = {}, {}
    for package in packages:
        count, largest = read_system_file(package / "energy_uj"), read_system_file(package / "max_energy_range_uj")
        if not count or not largest:
            return None
        counts[package.name], ranges[package.name] = int(count), int(largest)
    return EnergyReading(counts, ranges) if counts else None
