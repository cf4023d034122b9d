"""Execution providers: what each is called, how it is set up, and why it would not work on this machine.

ONNX Runtime lists a provider that it was compiled with even where its libraries cannot be loaded, and then
runs on the CPU without an error. So the libraries are tried here, one by one, before a session exists.
"""

import contextlib
import ctypes
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import onnxruntime as ort

from ct3d_edge.errors import ProviderError, UsageError

ProviderName = Literal["tensorrt", "cuda", "cpu"]
"""In the order in which ``auto`` tries them; a fallback goes to the right."""

RequestedProvider = Literal["auto", "tensorrt", "cuda", "cpu"]

WINDOWS = sys.platform == "win32"
DRIVER = "nvcuda.dll" if WINDOWS else "libcuda.so.1"
CUDNN = "cudnn64_9.dll" if WINDOWS else "libcudnn.so.9"
BRIDGE = "onnxruntime_providers_{}.dll" if WINDOWS else "libonnxruntime_providers_{}.so"


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Parameters
    ----------
    name, ort_name
        Our name and ONNX Runtime's.
    obstacle
        Returns a sentence that says why the provider cannot work here and what would help, or None.
    options
        ONNX Runtime's options for it.
    """

    name: ProviderName
    ort_name: str
    obstacle: Callable[[], str | None]
    options: dict[str, str] = field(default_factory=dict)


def provider(name: ProviderName) -> Provider:
    """The provider of that name."""
    return _PROVIDERS[name]


def candidates(requested: RequestedProvider, *, allow_fallback: bool) -> list[Provider]:
    """Providers to try, best first: all for ``auto``, one alone, or that one and the lesser ones.

    Raises
    ------
    UsageError
        If there is no provider of that name.
    """
    order = list(get_args(ProviderName))
    if requested == "auto":
        return [_PROVIDERS[name] for name in order]
    if requested not in order:
        raise UsageError(f"There is no provider {requested!r}. Choose one of: auto, {', '.join(order)}.")
    first = order.index(requested)
    return [_PROVIDERS[name] for name in (order[first:] if allow_fallback else order[first : first + 1])]


def lesser_than(candidate: Provider) -> list[Provider]:
    """Providers that may take the nodes that ``candidate`` leaves, best first, if they can work here at all."""
    order = list(_PROVIDERS.values())
    rest = order[order.index(candidate) + 1 :]
    return [entry for entry in rest if entry.ort_name in ort.get_available_providers() and entry.obstacle() is None]


def check(candidate: Provider) -> None:
    """Make sure that a provider's libraries load and find a device.

    Raises
    ------
    ProviderError
        With what is missing and the command that would help.
    """
    if candidate.ort_name not in ort.get_available_providers():
        raise ProviderError(
            f"this onnxruntime {ort.__version__} was built without it (it has: {', '.join(compiled_in())}). "
            "onnxruntime-gpu has it on x86-64 Linux and Windows; on a Jetson, install NVIDIA's own onnxruntime wheel"
        )
    obstacle = candidate.obstacle()
    if obstacle is not None:
        raise ProviderError(obstacle)


def compiled_in() -> list[str]:
    """Our names of the providers that this ONNX Runtime was compiled with, loadable or not."""
    available = ort.get_available_providers()
    return [name for name, entry in _PROVIDERS.items() if entry.ort_name in available]


def _no_obstacle() -> str | None:
    return None


def _cuda_obstacle() -> str | None:
    return _driver_obstacle() or _library_obstacle("cuda", 'pip install "ct3d-edge[cuda]"', extra=[CUDNN])


def _tensorrt_obstacle() -> str | None:
    return _cuda_obstacle() or _library_obstacle(
        "tensorrt", 'pip install "ct3d-edge[tensorrt]"', extra=[str(path) for path in _tensorrt_libraries()]
    )


def _tensorrt_libraries() -> list[Path]:
    """TensorRT's libraries where its Python package puts them; ONNX Runtime does not look there by itself."""
    package = find_spec("tensorrt_libs")
    places = package.submodule_search_locations if package else None
    if not places:
        return []
    names = ("nvinfer_10.dll", "nvonnxparser_10.dll") if WINDOWS else ("libnvinfer.so.10", "libnvonnxparser.so.10")
    return [path for name in names if (path := Path(places[0]) / name).is_file()]


def _driver_obstacle() -> str | None:
    """Ask the driver itself whether there is a device (CUDA driver API: cuInit, cuDeviceGetCount)."""
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError:
        return f"this machine has no NVIDIA driver ({DRIVER} cannot be loaded); install it, or use --provider cpu"
    count = ctypes.c_int(0)
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status or not count.value:
        return f"the NVIDIA driver finds no GPU (CUDA error {status}); see nvidia-smi, or use --provider cpu"
    return None


def _library_obstacle(name: str, remedy: str, extra: list[str] | None = None) -> str | None:
    """Load a provider's library as ONNX Runtime would, after the libraries that come as Python packages."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it cannot find; the loads below tell
        ort.preload_dlls()
    folder = Path(ort.__file__).parent / "capi"
    for library in (*(extra or []), *(str(folder / BRIDGE.format(part)) for part in ("shared", name))):
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return f"a library is missing ({error}); {remedy}"
    return None


_PROVIDERS: dict[ProviderName, Provider] = {
    "tensorrt": Provider("tensorrt", "TensorrtExecutionProvider", _tensorrt_obstacle),
    "cuda": Provider(
        "cuda",
        "CUDAExecutionProvider",
        _cuda_obstacle,
        # TF32 rounds inputs of convolutions to 10 bits of mantissa: a choice for whoever measures it, not a default.
        # DEFAULT, the library's choice without a search, was reported four times slower (onnxruntime#22705).
        {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
    ),
    "cpu": Provider("cpu", "CPUExecutionProvider", _no_obstacle),
}
