"""NVIDIA's driver, GPU and libraries, asked through their C interfaces; None for whatever is not there.

NVIDIA's driver, GPU and libraries, asked through their C interfaces; None for whatever is not there.

Functions: CUDA driver API (cuInit, cuDeviceGetCount, cuDeviceGetName, cuDeviceGetAttribute, cuDriverGetVersion), NVML
(nvmlSystemGetDriverVersion), cuDNN (cudnnGetVersion), TensorRT (getInferLibVersion), CUDA runtime
(cudaRuntimeGetVersion).
"""

import ctypes
import sys
from dataclasses import dataclass
from pathlib import Path

VENDOR = "0x10de"
"""NVIDIA's number among the vendors of PCI devices."""

DISPLAY, PROCESSING = "0x03", "0x12"
"""How the class of a display controller begins, and that of an accelerator, in sysfs."""

DEVICES = ("nvidia[0-9]*", "nvhost-*", "dxg")
"""In /dev: cards with a driver, a Jetson's, and the GPU of a Windows host under WSL."""


def nvidia_card_seen(root: Path = Path("/")) -> bool:
    """Whether one is seen on Linux, by its driver, as a PCI device or as a Jetson; True elsewhere.

    Parameters
    ----------
    root
        Where ``/proc``, ``/sys`` and ``/dev`` are.
    """
    if not sys.platform.startswith("linux"):
        return True
    if (root / "proc/driver/nvidia").exists():
        return True
    if any(next((root / "dev").glob(pattern), None) for pattern in DEVICES):
        return True
    return any(_is_card(device) for device in (root / "sys/bus/pci/devices").glob("*"))


def _is_card(device: Path) -> bool:
    return _text(device / "vendor") == VENDOR and _text(device / "class").startswith((DISPLAY, PROCESSING))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


WINDOWS = sys.platform == "win32"
DRIVER = "nvcuda.dll" if WINDOWS else "libcuda.so.1"
NVML = "nvml.dll" if WINDOWS else "libnvidia-ml.so.1"
CUDNN = "cudnn64_9.dll" if WINDOWS else "libcudnn.so.9"
INFER = "nvinfer_10.dll" if WINDOWS else "libnvinfer.so.10"
RUNTIME = "cudart64_{}.dll" if WINDOWS else "libcudart.so.{}"

CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Parameters
    ----------
    name
        As the driver calls it, e.g. ``NVIDIA RTX A2000``.
    capability
        Compute capability, ``(major, minor)``.
    driver
        Version of the driver, e.g. ``580.65.06``; None if NVML does not tell.
    cuda
        Newest CUDA version that the driver supports, e.g. ``13.0``.
    """

    name: str
    capability: tuple[int, int]
    driver: str | None
    cuda: str | None


def gpu_count() -> int:
    """Number of GPUs that this process may use (``CUDA_VISIBLE_DEVICES`` counts).

    Raises
    ------
    OSError
        If there is no driver, or it fails; the message says which.
    """
    driver = ctypes.CDLL(DRIVER)
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status:
        raise OSError(f"CUDA error {status}")
    return count.value


def find_gpu(device_id: int) -> Gpu | None:
    """The GPU of that number, if there is one."""
    try:
        if not 0 <= device_id < gpu_count():
            return None
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return None
    device = ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(device), device_id)
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, len(name), device)
    major, minor = (_attribute(driver, device, number) for number in (CAPABILITY_MAJOR, CAPABILITY_MINOR))
    return Gpu(name.value.decode(errors="replace"), (major, minor), driver_version(), driver_cuda())


def driver_version() -> str | None:
    """Version of the NVIDIA driver, as nvidia-smi shows it."""
    nvml = _load(NVML)
    if nvml is None or nvml.nvmlInit_v2():
        return None
    text = ctypes.create_string_buffer(96)
    failed = nvml.nvmlSystemGetDriverVersion(text, len(text))
    nvml.nvmlShutdown()
    return None if failed else text.value.decode(errors="replace")


def driver_cuda() -> str | None:
    """Newest CUDA version that the driver supports."""
    return _cuda_version(DRIVER, "cuDriverGetVersion")


def runtime_version(major: str) -> str | None:
    """Version of the CUDA runtime library of that major version."""
    return _cuda_version(RUNTIME.format(major), "cudaRuntimeGetVersion")


def cudnn_version() -> str | None:
    """Version of cuDNN; 9.14.0 is stored as 91400."""
    return _dotted(_number(CUDNN, "cudnnGetVersion", ctypes.c_size_t))


def tensorrt_version() -> str | None:
    """Version of TensorRT; 10.13.3 is stored as 101303."""
    return _dotted(_number(INFER, "getInferLibVersion", ctypes.c_int))


def _attribute(driver: ctypes.CDLL, device: ctypes.c_int, number: int) -> int:
    value = ctypes.c_int(0)
    driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value


def _load(library: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(library)
    except OSError:
        return None


def _cuda_version(library: str, function: str) -> str | None:
    """CUDA stores 13.0 as 13000."""
    loaded = _load(library)
    number = ctypes.c_int(0)
    if loaded is None or getattr(loaded, function)(ctypes.byref(number)) or not number.value:
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _number(library: str, function: str, kind: type[ctypes.c_size_t | ctypes.c_int]) -> int | None:
    loaded = _load(library)
    if loaded is None:
        return None
    asked = getattr(loaded, function)
    asked.restype = kind
    return int(asked())


def _dotted(number: int | None) -> str | None:
    return f"{number // 10000}.{number % 10000 // 100}.{number % 100}" if number else None
