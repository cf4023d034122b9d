"""Monitor the system during a measurement: load, frequency, throttling, memory and energy.

Linux reports these in files; what a system does not report is None.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ct3d_edge.latency.measure import Clock
from ct3d_edge.progress import Progress
from ct3d_edge.system.machine import read_system_file

STAT = Path("/proc/stat")
CPUINFO = Path("/proc/cpuinfo")
CGROUP_CPU_STAT = Path("/sys/fs/cgroup/cpu.stat")
CPUS = Path("/sys/devices/system/cpu")
STATM = Path("/proc/self/statm")
STATUS = Path("/proc/self/status")
POWERCAP = Path("/sys/class/powercap")

IDLE_COLUMN, IOWAIT_COLUMN, STEAL_COLUMN = 3, 4, 7
"""Columns of the line ``cpu`` in /proc/stat (proc_stat(5)); guest time, from column 8 on, is counted in the others."""


@dataclass(frozen=True)
class SystemSnapshot:
    """The machine at one moment; counters grow from one to the next.

    Parameters
    ----------
    at_s
        Seconds since the first snapshot of its record.
    busy_s
        CPU seconds that all processes used since the start of the machine, this one included.
    own_s
        CPU seconds that this process and the children it waited for used.
    stolen_s
        CPU seconds in which a hypervisor ran other guests.
    load
        Load average of the last minute.
    mhz
        Mean frequency of the cores.
    throttled
        Periods in which the container's CPU quota stopped processes.
    too_hot
        Times that a core was slowed down because of its temperature.
    """

    at_s: float
    own_s: float
    busy_s: float | None = None
    stolen_s: float | None = None
    load: float | None = None
    mhz: float | None = None
    throttled: int | None = None
    too_hot: int | None = None


class SystemMonitor:
    """Takes snapshots of the machine during a measurement: one at the start, more between the runs.

    Parameters
    ----------
    clock
        Source of the time.
    every_s
        Least time between two snapshots of ``sample_if_due``.
    read
        Reads the machine, given the seconds since the first snapshot.
    """

    def __init__(
        self, clock: Clock, every_s: float = 1.0, read: Callable[[float], SystemSnapshot] | None = None
    ) -> None:
        self._clock, self._every_s, self._read = clock, every_s, read or take_snapshot
        self._began = clock.now()
        self.snapshots: list[SystemSnapshot] = [self._read(0.0)]

    def sample_if_due(self) -> None:
        """Take a snapshot if the last one is old enough; to be called between runs."""
        if self._seconds() - self.snapshots[-1].at_s >= self._every_s:
            self.sample()

    def sample(self) -> None:
        """Take a snapshot now."""
        self.snapshots.append(self._read(self._seconds()))

    def watch(self, progress: Progress) -> Progress:
        """A `Progress` that takes a snapshot if one is due, then calls ``progress``."""

        def step(done: int, total: int | None, what: str) -> None:
            self.sample_if_due()
            progress(done, total, what)

        return step

    def finish(self) -> tuple[SystemSnapshot, ...]:
        """Take the last snapshot, and return all of them."""
        self.sample()
        return tuple(self.snapshots)

    def _seconds(self) -> float:
        return (self._clock.now() - self._began) / 1e9


def take_snapshot(at_s: float) -> SystemSnapshot:
    """Read this machine."""
    busy, stolen = _cpu_seconds(read_system_file(STAT) or "")
    times = os.times()
    return SystemSnapshot(
        at_s=at_s,
        own_s=times.user + times.system + times.children_user + times.children_system,
        busy_s=busy,
        stolen_s=stolen,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        mhz=_mhz(),
        throttled=_sum(re.findall(r"^nr_throttled (\d+)$", read_system_file(CGROUP_CPU_STAT) or "", re.MULTILINE)),
        too_hot=_sum(_read_texts("cpu[0-9]*/thermal_throttle/core_throttle_count")),
    )


def _cpu_seconds(stat: str) -> tuple[float | None, float | None]:
    """CPU seconds busy and stolen since the start of the machine."""
    line = stat.partition("\n")[0].split()
    if len(line) <= STEAL_COLUMN + 1 or line[0] != "cpu":
        return None, None
    ticks = [int(value) / os.sysconf("SC_CLK_TCK") for value in line[1 : STEAL_COLUMN + 2]]
    return sum(ticks) - ticks[IDLE_COLUMN] - ticks[IOWAIT_COLUMN] - ticks[STEAL_COLUMN], ticks[STEAL_COLUMN]


def _mhz() -> float | None:
    """Mean frequency of the cores now, as the kernel's driver or else /proc/cpuinfo reports it."""
    values = [float(text) / 1000 for text in _read_texts("cpu[0-9]*/cpufreq/scaling_cur_freq")]
    values = values or [
        float(text) for text in re.findall(r"^cpu MHz\s*: (\S+)", read_system_file(CPUINFO) or "", re.M)
    ]
    return round(sum(values) / len(values), 1) if values else None


def _read_texts(pattern: str) -> list[str]:
    return [text for path in sorted(CPUS.glob(pattern)) if (text := read_system_file(path))]


def _sum(numbers: Iterable[str]) -> int | None:
    values = [int(number) for number in numbers]
    return sum(values) if values else None


@dataclass(frozen=True)
class GpuReading:
    """Sum over all GPUs and all processes: in a container NVML cannot assign memory to processes.

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


def read_resident_bytes() -> int | None:
    """Memory of this process that is in RAM now (proc_pid_statm(5)); None where the system does not report it."""
    fields = (read_system_file(STATM) or "").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else None


def read_peak_bytes() -> int | None:
    """Peak memory of this process in RAM (VmHWM of proc_pid_status(5))."""
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
        Package to the value at which its counter wraps around to zero.
    """

    counts: Mapping[str, int]
    ranges: Mapping[str, int]

    def joules_to(self, later: "EnergyReading") -> float:
        """Energy between two readings; no counter may have wrapped around more than once."""
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
