"""Providers that come as packages of their own and are registered with ONNX Runtime when they are asked for."""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import onnxruntime as ort

from ct3d_edge.providers.names import ProviderName, install_command
from ct3d_edge.providers.provider_issue import ProviderIssue


@dataclass(frozen=True)
class Plugin:
    """A plugin provider.

    Parameters
    ----------
    name, ort_name
        Our name and ONNX Runtime's.
    module
        Python module that knows where its library is.
    supported_devices
        The devices it is made for.
    """

    name: ProviderName
    ort_name: str
    module: str
    supported_devices: str

    @property
    def installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.module) is not None


OPENVINO = Plugin("openvino", "OpenVINOExecutionProvider", "onnxruntime_ep_openvino", "Intel CPUs, GPUs and NPUs")
TENSORRT_RTX = Plugin(
    "nv-tensorrt-rtx",
    "NvTensorRTRTXExecutionProvider",
    "onnxruntime_ep_nv_tensorrt_rtx",
    "NVIDIA RTX GPUs, Ampere and later",
)

PLUGINS: dict[ProviderName, Plugin] = {"openvino": OPENVINO, "nv-tensorrt-rtx": TENSORRT_RTX}


def find_plugin_issue(plugin: Plugin) -> ProviderIssue | None:
    """Why a plugin cannot work here, if it cannot: not installed, not loadable, or without a device."""
    if not plugin.installed:
        return ProviderIssue(
            f"its package {plugin.module} is not installed",
            missing=(plugin.module,),
            remedy=install_command(plugin.name),
        )
    try:
        devices = list_plugin_devices(plugin)
    except Exception as error:  # whatever a foreign package and a native library may raise
        return ProviderIssue(f"its library cannot be loaded ({error})", remedy=install_command(plugin.name))
    if devices:
        return None
    present = ", ".join(sorted({_describe_device(device.device) for device in ort.get_ep_devices()}))
    return ProviderIssue(
        f"its plugin was registered with ONNX Runtime but lists no devices: it serves {plugin.supported_devices}, "
        f"and ONNX Runtime finds here: {present}"
    )


def list_plugin_devices(plugin: Plugin) -> list[Any]:
    """The devices (``OrtEpDevice``) that a plugin offers, in its order."""
    _register(plugin.name, plugin.module)
    return [device for device in ort.get_ep_devices() if device.ep_name == plugin.ort_name]


@cache  # ONNX Runtime refuses to register a library twice
def _register(name: str, module: str) -> None:
    ort.register_execution_provider_library(name, import_module(module).get_library_path())


def _describe_device(device: Any) -> str:
    """A hardware device in words, e.g. ``CPU by AMD``."""
    return f"{str(device.type).rpartition('.')[2]} by {device.vendor or 'an unknown vendor'}"
