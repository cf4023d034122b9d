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
from ct3d_edge.providers.plugins import OPENVINO, TENSORRT_RTX, Plugin, find_plugin_issue
from ct3d_edge.providers.provider_issue import ProviderIssue
from ct3d_edge.providers.shared_libraries import WINDOWS, find_first_files, find_package_dirs, linked_libraries

PROVIDER_LIBRARY = "onnxruntime_providers_{}.dll" if WINDOWS else "libonnxruntime_providers_{}.so"
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
    find_issue
        Returns why the provider cannot work here and what would help, or None.
    library
        The part of the file name by which ONNX Runtime keeps its code apart; None if it is built in or a plugin.
    plugin
        The package it comes in, if it is a plugin.
    """

    name: ProviderName
    ort_name: str
    find_issue: Callable[[], ProviderIssue | None]
    library: str | None = None
    plugin: Plugin | None = None

    @property
    def compiled_in(self) -> bool:
        """Whether this ONNX Runtime was built with it; a plugin never is."""
        return self.ort_name in ort.get_available_providers()

    @property
    def library_path(self) -> Path | None:
        """The file that holds its code, loadable or not."""
        return _library_file(self.library) if self.library else None


def get_provider(name: ProviderName) -> Provider:
    """The provider of that name."""
    return _PROVIDERS[name]


def list_candidate_providers(requested: RequestedProvider, *, allow_fallback: bool) -> list[Provider]:
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
    return [asked, *_lower_ranked(asked)] if allow_fallback else [asked]


def fallbacks_of(candidate: Provider) -> list[Provider]:
    """Providers that may take the nodes that ``candidate`` leaves, best first, if they can work here at all."""
    return [entry for entry in _lower_ranked(candidate) if entry.compiled_in and entry.find_issue() is None]


def require_available(candidate: Provider) -> None:
    """Make sure that a provider's libraries load and find a device.

    Raises
    ------
    ProviderError
        With what is missing and the command that would help.
    """
    obstacle = find_provider_issue(candidate)
    if obstacle is not None:
        raise ProviderError(str(obstacle))


def find_provider_issue(candidate: Provider) -> ProviderIssue | None:
    """Why a provider cannot work here, if it cannot."""
    if candidate.plugin is None and not candidate.compiled_in:
        return _not_compiled_in()
    return candidate.find_issue()


def compiled_in() -> list[str]:
    """Our names of the providers that this ONNX Runtime was compiled with, loadable or not."""
    return [name for name, entry in _PROVIDERS.items() if entry.compiled_in]


def provider_name_of(ort_name: str) -> str:
    """Our name of one of ONNX Runtime's providers; its own, shortened, for one that is none of ours."""
    known = {entry.ort_name: name for name, entry in _PROVIDERS.items()}
    return known.get(ort_name, ort_name.removesuffix("ExecutionProvider").lower())


def _lower_ranked(candidate: Provider) -> list[Provider]:
    rest = PROVIDERS[PROVIDERS.index(candidate.name) + 1 :]
    return [_PROVIDERS[name] for name in rest if name in AUTOMATIC]


def _not_compiled_in() -> ProviderIssue:
    reason = f"this onnxruntime {ort.__version__} was built without it (it has: {', '.join(compiled_in())})"
    if platform.machine() not in ("x86_64", "AMD64"):
        return ProviderIssue(f"{reason}; on a Jetson, install NVIDIA's own onnxruntime wheel")
    return ProviderIssue(reason, remedy="pip uninstall --yes onnxruntime && pip install onnxruntime-gpu")


def _no_issue() -> ProviderIssue | None:
    return None


def _find_cuda_issue() -> ProviderIssue | None:
    return _find_driver_issue() or _find_library_issue("cuda", [nvidia.CUDNN])


def _find_tensorrt_issue() -> ProviderIssue | None:
    # TensorRT's Python package puts its libraries where ONNX Runtime does not look by itself.
    shipped = [str(path) for path in find_first_files(find_package_dirs("tensorrt_libs"), TENSORRT_LIBRARIES)]
    return _find_cuda_issue() or _find_library_issue("tensorrt", shipped)


def _find_driver_issue() -> ProviderIssue | None:
    """Ask the driver itself whether there is a device, and whether it is new enough."""
    try:
        count = nvidia.gpu_count()
    except OSError as error:
        if nvidia.CUDA_DRIVER in str(error):
            reason = f"this machine has no NVIDIA driver ({nvidia.CUDA_DRIVER} cannot be loaded)"
            return ProviderIssue(f"{reason}; install it, or use the provider cpu", missing=(nvidia.CUDA_DRIVER,))
        return ProviderIssue(f"the NVIDIA driver finds no GPU ({error}); see nvidia-smi, or use the provider cpu")
    if not count:
        return ProviderIssue("the NVIDIA driver finds no GPU; see nvidia-smi, or use the provider cpu")
    wanted, offered = str(ort.cuda_version or ""), nvidia.max_driver_cuda_version()
    if offered and _major(offered) < _major(wanted):
        return ProviderIssue(
            f"the NVIDIA driver supports CUDA {offered}, this onnxruntime needs {wanted}; update the driver"
        )
    return None


def _major(version: str) -> int:
    digits = version.partition(".")[0]
    return int(digits) if digits.isdigit() else 0


def _find_library_issue(name: ProviderName, extra: list[str]) -> ProviderIssue | None:
    """Load a provider's library as ONNX Runtime would, after the libraries that come as Python packages."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it cannot find; the loads below tell
        ort.preload_dlls()
    for library in (*extra, str(_library_file("shared")), str(_library_file(name))):
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            missing = [link.name for link in linked_libraries(_library_file(name)) if link.path is None]
            missing += [Path(library).name] if library in extra and not missing else []
            return ProviderIssue(f"a library is missing ({error})", tuple(missing), install_command(name))
    return None


def _library_file(part: str) -> Path:
    return Path(ort.__file__).parent / "capi" / PROVIDER_LIBRARY.format(part)


def _plugin_provider(plugin: Plugin) -> Provider:
    return Provider(plugin.name, plugin.ort_name, lambda: find_plugin_issue(plugin), plugin=plugin)


_PROVIDERS: dict[ProviderName, Provider] = {
    "tensorrt": Provider("tensorrt", "TensorrtExecutionProvider", _find_tensorrt_issue, library="tensorrt"),
    "nv-tensorrt-rtx": _plugin_provider(TENSORRT_RTX),
    "cuda": Provider("cuda", "CUDAExecutionProvider", _find_cuda_issue, library="cuda"),
    "openvino": _plugin_provider(OPENVINO),
    "cpu": Provider("cpu", "CPUExecutionProvider", _no_issue),
}
