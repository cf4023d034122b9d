"""Versions of everything under a session that may change its answers or its speed."""

import onnxruntime as ort

from ct3d_edge.provider_names import ProviderName
from ct3d_edge.runtime import nvidia

ON_NVIDIA = ("tensorrt", "nv-tensorrt-rtx", "cuda")


def library_versions(name: ProviderName) -> dict[str, str | None]:
    """Versions of ONNX Runtime and of the libraries under a provider; None for what is not there."""
    found: dict[str, str | None] = {"onnxruntime": ort.__version__}
    if name in ON_NVIDIA:
        major = str(ort.cuda_version or "").partition(".")[0]
        found["cuda"] = nvidia.runtime_version(major)
        found["cudnn"] = nvidia.cudnn_version()
        found["driver"] = nvidia.driver_version()
    if name == "tensorrt":
        found["tensorrt"] = nvidia.tensorrt_version()
    return found
