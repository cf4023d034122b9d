"""What else happens on the machine while something is timed: other load, frequency, throttling, stolen time.

Linux reports these in files; what a system does not report is None.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ct3d_edge.latency.measure import Clock
from ct3d_edge.progress import Progress
from ct3d_edge.system.machine import read_system_file

STAT = Path("/proc/stat")
CPUINFO = Path("/proc/cpuinfo")
CGROUP_CPU_STAT = Path("/sys/fs/cgroup/cpu.stat")
CPUS = Path("/sys/devices/system/cpu")

IDLE_COLUMN, IOWAIT_COLUMN, STEAL_COLUMN = 3, 4, 7
"""Columns of the line ``cpu`` in /proc/stat (proc_stat(5)); guest time, from column 8 on, is counted in the others."""

MAX_EXTERNAL_CORES, MAX_STEAL_SHARE, MAX_FREQUENCY_RATIO = 0.1, 0.01, 1.05
"""Beyond these a disturbance is named: cores used by others, share of the time, largest over smallest frequency."""


@dataclass(frozen=True)
class SystemSnapshot:
    """The machine at one moment; counters grow from one to the next.

    Parameters
    ----------
    at_s
        Seconds since the first snapshot of its record.
    busy_s
        CPU seconds that all processes used since the machine was started, this one included.
    own_s
        CPU seconds that this process and the children it waited for used.
    stolen_s
        CPU seconds in which a hypervisor ran other guests.
    load
        Load average of the last minute.
    mhz
        Mean of the cores' frequencies.
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
    """Takes snapshots of the machine while something is timed: one at once, more between the runs.

    Parameters
    ----------
    clock
        Where the time comes from.
    every_s
        ``sample_if_due`` takes no two snapshots closer than this.
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
        """A `Progress` that takes a snapshot if one is due, and passes the step on."""

        def step(done: int, total: int | None, what: str) -> None:
            self.sample_if_due()
            progress(done, total, what)

        return step

    def finish(self) -> tuple[SystemSnapshot, ...]:
        """Take the last snapshot; all of them."""
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


def interference(snapshots: Sequence[SystemSnapshot]) -> list[str]:
    """What happened between the first and the last snapshot that can make durations differ, a clause each."""
    if len(snapshots) < 2 or snapshots[-1].at_s <= snapshots[0].at_s:
        return []
    first, last = snapshots[0], snapshots[-1]
    clauses = external_load(snapshots)
    frequencies = [snapshot.mhz for snapshot in snapshots if snapshot.mhz]
    if frequencies and max(frequencies) / min(frequencies) > MAX_FREQUENCY_RATIO:
        clauses.append(f"the CPU ran at {min(frequencies):.0f} to {max(frequencies):.0f} MHz")
    if periods := _increase(first.throttled, last.throttled):
        clauses.append(f"the container's CPU quota stopped it in {periods:.0f} periods")
    if times := _increase(first.too_hot, last.too_hot):
        clauses.append(f"cores were slowed down for heat {times:.0f} times")
    return clauses


def external_load(snapshots: Sequence[SystemSnapshot]) -> list[str]:
    """The part of it that others did: processes on this machine, and other guests of its host."""
    if len(snapshots) < 2 or snapshots[-1].at_s <= snapshots[0].at_s:
        return []
    first, last = snapshots[0], snapshots[-1]
    seconds = last.at_s - first.at_s
    clauses = []
    busy = _increase(first.busy_s, last.busy_s)
    if busy is not None and (others := (busy - (last.own_s - first.own_s)) / seconds) > MAX_EXTERNAL_CORES:
        clauses.append(f"other processes used {others:.1f} cores on average")
    if (_increase(first.stolen_s, last.stolen_s) or 0) / seconds > MAX_STEAL_SHARE:
        clauses.append(f"the hypervisor ran other guests for {(last.stolen_s or 0) - (first.stolen_s or 0):.1f} s")
    return clauses


def _increase(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


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
