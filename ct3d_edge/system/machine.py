"""Description of this machine: processor, memory, versions."""

import math
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

CPUINFO = Path("/proc/cpuinfo")
MEMINFO = Path("/proc/meminfo")
CGROUP_MEMORY = Path("/sys/fs/cgroup")
CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")

CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_tile", "asimddp")
"""Features that decide how fast a CPU runs a network; the last one is Arm's."""

CPU_FEATURES = {
    "AVX2": ("avx2",),
    "AVX-512": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16", "amx_bf16"),
    "AMX": ("amx_tile",),
}
"""What people call them, and the flags of which any one is enough; of x86."""


def count_usable_cores() -> int:
    """Cores that this process may use: its affinity, and the CPU quota of its container (cgroup v2)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = read_cpu_quota()
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def detect_cpu_features() -> dict[str, bool] | None:
    """Which of ``CPU_FEATURES`` there are; None where the system does not report them, or the CPU is not an x86."""
    flags = (_field(read_system_file(CPUINFO) or "", "flags") or "").split()
    if not flags:
        return None
    return {name: any(flag in flags for flag in known) for name, known in CPU_FEATURES.items()}


def read_cpu_quota() -> float | None:
    """Cores' worth of time that the container may use (cgroup v2); None without a limit."""
    quota, _, period = (read_system_file(CGROUP_CPU_MAX) or "max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def read_available_memory() -> int | None:
    """Bytes that can still be used without swapping, inside the container's limit; None if unknown."""
    free = _field(read_system_file(MEMINFO) or "", "MemAvailable")
    amounts = [int(free.split()[0]) * 1024] if free else []
    limit, used = read_system_file(CGROUP_MEMORY / "memory.max"), read_system_file(CGROUP_MEMORY / "memory.current")
    if limit and used and limit.isdigit():
        amounts.append(max(0, int(limit) - int(used)))
    return min(amounts, default=None)


def read_system_file(path: Path) -> str | None:
    """The text of a file of the operating system; None if there is none."""
    try:
        return path.read_text().strip()
    except OSError:  # another operating system, or hidden inside a container
        return None


def find_installed_version(package: str) -> str | None:
    """Version of an installed distribution; None if there is none of that name."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe_machine(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Everything that a timing depends on and that can be read without privileges; None where it cannot.

    Parameters
    ----------
    packages
        Distributions whose versions matter; those not installed are left out.
    """
    cpuinfo = read_system_file(CPUINFO) or ""
    features = _field(cpuinfo, "flags") or _field(cpuinfo, "Features") or ""  # on x86, on Arm
    return {
        "platform": platform.platform(),
        "architecture": platform.machine(),
        "cpu": _field(cpuinfo, "model name") or platform.processor() or None,
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in features.split()],
        "cores_usable": count_usable_cores(),
        "cores_present": os.cpu_count(),
        "cgroup_cpu_max": read_system_file(CGROUP_CPU_MAX),
        "governor": read_system_file(GOVERNOR),
        "memory": _field(read_system_file(MEMINFO) or "", "MemTotal"),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "packages": {name: version for name in packages if (version := find_installed_version(name))},
    }


def _field(text: str, name: str) -> str | None:
    """Value of the first ``name : value`` line."""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), None)
