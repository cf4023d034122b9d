"""What NVIDIA GPUs tell of their memory and energy, through NVML (NVIDIA's own binding, package nvidia-ml-py)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GpuReading:
    """All GPUs of this machine together, whoever uses them: in a container NVML cannot tell whose memory it is.

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
        yield [pynvml.nvmlDeviceGetHandleByIndex(place) for place in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


def _joules(pynvml: Any, gpus: list[Any]) -> float | None:
    try:
        return sum(int(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)) for gpu in gpus) / 1e3  # NVML counts in mJ
    except pynvml.NVMLError_NotSupported:
        return None
