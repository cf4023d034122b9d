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

NVIDIA_VENDOR_ID = "0x10de"
"""NVIDIA's number among the vendors of PCI devices."""

PCI_CLASS_DISPLAY, PCI_CLASS_ACCELERATOR = "0x03", "0x12"
"""How the class of a display controller begins, and that of an accelerator, in sysfs."""

NVIDIA_DEVICE_FILES = ("nvidia[0-9]*", "nvhost-*", "dxg")
"""In /dev: cards with a driver, a Jetson's, and the GPU of a Windows host under WSL."""


def has_nvidia_gpu(root: Path = Path("/")) -> bool:
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
    if any(next((root / "dev").glob(pattern), None) for pattern in NVIDIA_DEVICE_FILES):
        return True
    return any(_is_card(device) for device in (root / "sys/bus/pci/devices").glob("*"))


def _is_card(device: Path) -> bool:
    return _text(device / "vendor") == NVIDIA_VENDOR_ID and _text(device / "class").startswith(
        (PCI_CLASS_DISPLAY, PCI_CLASS_ACCELERATOR)
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


WINDOWS = sys.platform == "win32"
CUDA_DRIVER = "nvcuda.dll" if WINDOWS else "libcuda.so.1"
NVML = "nvml.dll" if WINDOWS else "libnvidia-ml.so.1"
CUDNN = "cudnn64_9.dll" if WINDOWS else "libcudnn.so.9"
NVINFER = "nvinfer_10.dll" if WINDOWS else "libnvinfer.so.10"
CUDART = "cudart64_{}.dll" if WINDOWS else "libcudart.so.{}"

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
        Version of the driver, e.g. ``580.65.06``; None if NVML does not report it.
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
        If there is no driver, or it fails; the message names which.
    """
    driver = ctypes.CDLL(CUDA_DRIVER)
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
        driver = ctypes.CDLL(CUDA_DRIVER)
    except OSError:
        return None
    device = ctypes.c_int(0)
    driver.cuDeviceGet(ctypes.byref(device), device_id)
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, len(name), device)
    major, minor = (_attribute(driver, device, number) for number in (CAPABILITY_MAJOR, CAPABILITY_MINOR))
    return Gpu(name.value.decode(errors="replace"), (major, minor), driver_version(), max_driver_cuda_version())


def driver_version() -> str | None:
    """Version of the NVIDIA driver, as nvidia-smi shows it."""
    nvml = _load(NVML)
    if nvml is None or nvml.nvmlInit_v2():
        return None
    text = ctypes.create_string_buffer(96)
    failed = nvml.nvmlSystemGetDriverVersion(text, len(text))
    nvml.nvmlShutdown()
    return None if failed else text.value.decode(errors="replace")


def max_driver_cuda_version() -> str | None:
    """Newest CUDA version that the driver supports."""
    return _cuda_version(CUDA_DRIVER, "cuDriverGetVersion")


def cudart_version(major: str) -> str | None:
    """Version of the CUDA runtime library of that major version."""
    return _cuda_version(CUDART.format(major), "cudaRuntimeGetVersion")


def cudnn_version() -> str | None:
    """Version of cuDNN; 9.14.0 is stored as 91400."""
    return _format_version(_number(CUDNN, "cudnnGetVersion", ctypes.c_size_t))


def tensorrt_version() -> str | None:
    """Version of TensorRT; 10.13.3 is stored as 101303."""
    return _format_version(_number(NVINFER, "getInferLibVersion", ctypes.c_int))


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


def _format_version(number: int | None) -> str | None:
    return f"{number // 10000}.{number % 10000 // 100}.{number % 100}" if number else None
