"""Versions and device under a session: whatever may change its answers, its speed or the validity of an engine."""

import os
from dataclasses import dataclass

import onnxruntime as ort

from ct3d_edge.providers import nvidia
from ct3d_edge.providers.names import ON_NVIDIA, ProviderName
from ct3d_edge.providers.options import Options
from ct3d_edge.providers.plugins import PLUGINS, find_plugin_issue, list_plugin_devices
from ct3d_edge.system.machine import find_installed_version

AMPERE_CAPABILITY = (8, 0)
"""Compute capability of the first GPUs with TF32."""


@dataclass(frozen=True)
class RuntimePlatform:
    """What a session stands on; None for whatever is not there or does not tell.

    Parameters
    ----------
    versions
        Of ct3d-edge, ONNX Runtime, the plugin, CUDA, cuDNN, TensorRT and NVIDIA's driver.
    gpu
        NVIDIA's GPU that does the work.
    """

    versions: tuple[tuple[str, str | None], ...]
    gpu: nvidia.Gpu | None


def detect_platform(name: ProviderName, device_number: int = 0) -> RuntimePlatform:
    """What a session on that provider and device stands on; NVIDIA is asked only where it does the work."""
    nvidia_does_it = name in ON_NVIDIA
    gpu = nvidia.find_gpu(device_number) if nvidia_does_it else None
    cuda = str(ort.cuda_version or "").partition(".")[0]
    found = {
        "ct3d-edge": find_installed_version("ct3d-edge"),
        "onnxruntime": str(ort.__version__),
        "plugin": _plugin_version(name),
        "cuda": nvidia.cudart_version(cuda) if nvidia_does_it else None,
        "cudnn": nvidia.cudnn_version() if nvidia_does_it else None,
        "tensorrt": nvidia.tensorrt_version() if name == "tensorrt" else None,
        "driver": gpu.driver if gpu else None,
    }
    return RuntimePlatform(tuple(found.items()), gpu)


def is_tf32_allowed(name: ProviderName, options: Options, gpu: nvidia.Gpu | None) -> bool | None:
    """Whether inputs of convolutions may be rounded to TF32; None where the provider does not tell.

    NVIDIA's libraries obey ``NVIDIA_TF32_OVERRIDE`` above every other setting. TensorRT allows TF32 unless its builder
    is told otherwise, which ONNX Runtime's provider has no option for.
    """
    if name not in ("tensorrt", "cuda"):
        return None
    if gpu and gpu.capability < AMPERE_CAPABILITY:
        return False
    override = os.environ.get("NVIDIA_TF32_OVERRIDE")
    if override in ("0", "1"):
        return override == "1"
    return name == "tensorrt" or options.as_dict()["use_tf32"] == "1"


def _plugin_version(name: ProviderName) -> str | None:
    if name not in PLUGINS or find_plugin_issue(PLUGINS[name]):  # a tuned choice may outlive the plugin
        return None
    return next((device.ep_metadata.get("version") for device in list_plugin_devices(PLUGINS[name])), None)
