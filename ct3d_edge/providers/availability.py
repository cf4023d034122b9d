"""Execution providers: what each is called, and why it would not work on this machine.

ONNX Runtime lists a provider that it was compiled with even where its libraries cannot be loaded, and then
runs on the CPU without an error. So the libraries are tried here, one by one, before a session exists.
"""

import contextlib
import ctypes
import io
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnxruntime as ort

from ct3d_edge.errors import ProviderError, UsageError
from ct3d_edge.providers import nvidia
from ct3d_edge.providers.names import AUTOMATIC, PROVIDERS, ProviderName, RequestedProvider, install_command
from ct3d_edge.providers.plugins import OPENVINO, TENSORRT_RTX, Plugin, plugin_obstacle
from ct3d_edge.providers.provider_issue import Obstacle
from ct3d_edge.providers.shared_libraries import WINDOWS, first_file, linked_by, package_places

BRIDGE = "onnxruntime_providers_{}.dll" if WINDOWS else "libonnxruntime_providers_{}.so"
TENSORRT_LIBRARIES = (
    ("nvinfer_10.dll", "nvonnxparser_10.dll") if WINDOWS else ("libnvinfer.so.10", "libnvonnxparser.so.10")
)


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Parameters
    ----------
    name, ort_name
        Our name and ONNX Runtime's.
    obstacle
        Returns why the provider cannot work here and what would help, or None.
    library
        The part of the file name by which ONNX Runtime keeps its code apart; None if it is built in or a plugin.
    plugin
        The package it comes in, if it is a plugin.
    """

    name: ProviderName
    ort_name: str
    obstacle: Callable[[], Obstacle | None]
    library: str | None = None
    plugin: Plugin | None = None

    @property
    def compiled_in(self) -> bool:
        """Whether this ONNX Runtime was built with it; a plugin never is."""
        return self.ort_name in ort.get_available_providers()

    @property
    def library_path(self) -> Path | None:
        """The file that holds its code, loadable or not."""
        return _bridge(self.library) if self.library else None


def provider(name: ProviderName) -> Provider:
    """The provider of that name."""
    return _PROVIDERS[name]


def candidates(requested: RequestedProvider, *, allow_fallback: bool) -> list[Provider]:
    """Providers to try, best first: all for ``auto``, one alone, or that one and the lesser ones.

    Plugins are tried only if they are asked for by name.

    Raises
    ------
    UsageError
        If there is no provider of that name.
    """
    if requested == "auto":
        return [_PROVIDERS[name] for name in AUTOMATIC]
    if requested not in PROVIDERS:
        raise UsageError(f"There is no provider {requested!r}. Choose one of: auto, {', '.join(PROVIDERS)}.")
    asked = _PROVIDERS[requested]
    return [asked, *_to_the_right(asked)] if allow_fallback else [asked]


def lesser_than(candidate: Provider) -> list[Provider]:
    """Providers that may take the nodes that ``candidate`` leaves, best first, if they can work here at all."""
    return [entry for entry in _to_the_right(candidate) if entry.compiled_in and entry.obstacle() is None]


def check(candidate: Provider) -> None:
    """Make sure that a provider's libraries load and find a device.

    Raises
    ------
    ProviderError
        With what is missing and the command that would help.
    """
    obstacle = find_obstacle(candidate)
    if obstacle is not None:
        raise ProviderError(str(obstacle))


def find_obstacle(candidate: Provider) -> Obstacle | None:
    """Why a provider cannot work here, if it cannot."""
    if candidate.plugin is None and not candidate.compiled_in:
        return _not_compiled_in()
    return candidate.obstacle()


def compiled_in() -> list[str]:
    """Our names of the providers that this ONNX Runtime was compiled with, loadable or not."""
    return [name for name, entry in _PROVIDERS.items() if entry.compiled_in]


def our_name(ort_name: str) -> str:
    """Our name of one of ONNX Runtime's providers; its own, shortened, for one that is none of ours."""
    known = {entry.ort_name: name for name, entry in _PROVIDERS.items()}
    return known.get(ort_name, ort_name.removesuffix("ExecutionProvider").lower())


def _to_the_right(candidate: Provider) -> list[Provider]:
    rest = PROVIDERS[PROVIDERS.index(candidate.name) + 1 :]
    return [_PROVIDERS[name] for name in rest if name in AUTOMATIC]


def _not_compiled_in() -> Obstacle:
    reason = f"this onnxruntime {ort.__version__} was built without it (it has: {', '.join(compiled_in())})"
    if platform.machine() not in ("x86_64", "AMD64"):
        return Obstacle(f"{reason}; on a Jetson, install NVIDIA's own onnxruntime wheel")
    return Obstacle(reason, remedy="pip uninstall --yes onnxruntime && pip install onnxruntime-gpu")


def _no_obstacle() -> Obstacle | None:
    return None


def _cuda_obstacle() -> Obstacle | None:
    return _driver_obstacle() or _library_obstacle("cuda", [nvidia.CUDNN])


def _tensorrt_obstacle() -> Obstacle | None:
    # TensorRT's Python package puts its libraries where ONNX Runtime does not look by itself.
    shipped = [str(path) for path in first_file(package_places("tensorrt_libs"), TENSORRT_LIBRARIES)]
    return _cuda_obstacle() or _library_obstacle("tensorrt", shipped)


def _driver_obstacle() -> Obstacle | None:
    """Ask the driver itself whether there is a device, and whether it is new enough."""
    try:
        count = nvidia.gpu_count()
    except OSError as error:
        if nvidia.DRIVER in str(error):
            reason = f"this machine has no NVIDIA driver ({nvidia.DRIVER} cannot be loaded)"
            return Obstacle(f"{reason}; install it, or use the provider cpu", missing=(nvidia.DRIVER,))
        return Obstacle(f"the NVIDIA driver finds no GPU ({error}); see nvidia-smi, or use the provider cpu")
    if not count:
        return Obstacle("the NVIDIA driver finds no GPU; see nvidia-smi, or use the provider cpu")
    wanted, offered = str(ort.cuda_version or ""), nvidia.driver_cuda()
    if offered and _major(offered) < _major(wanted):
        return Obstacle(
            f"the NVIDIA driver supports CUDA {offered}, this onnxruntime needs {wanted}; update the driver"
        )
    return None


def _major(version: str) -> int:
    digits = version.partition(".")[0]
    return int(digits) if digits.isdigit() else 0


def _library_obstacle(name: ProviderName, extra: list[str]) -> Obstacle | None:
    """Load a provider's library as ONNX Runtime would, after the libraries that come as Python packages."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it cannot find; the loads below tell
        ort.preload_dlls()
    for library in (*extra, str(_bridge("shared")), str(_bridge(name))):
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            missing = [link.name for link in linked_by(_bridge(name)) if link.path is None]
            missing += [Path(library).name] if library in extra and not missing else []
            return Obstacle(f"a library is missing ({error})", tuple(missing), install_command(name))
    return None


def _bridge(part: str) -> Path:
    return Path(ort.__file__).parent / "capi" / BRIDGE.format(part)


def _plugin(plugin: Plugin) -> Provider:
    return Provider(plugin.name, plugin.ort_name, lambda: plugin_obstacle(plugin), plugin=plugin)


_PROVIDERS: dict[ProviderName, Provider] = {
    "tensorrt": Provider("tensorrt", "TensorrtExecutionProvider", _tensorrt_obstacle, library="tensorrt"),
    "nv-tensorrt-rtx": _plugin(TENSORRT_RTX),
    "cuda": Provider("cuda", "CUDAExecutionProvider", _cuda_obstacle, library="cuda"),
    "openvino": _plugin(OPENVINO),
    "cpu": Provider("cpu", "CPUExecutionProvider", _no_obstacle),
}
