"""Execution providers by name: in which order they are tried, and which extra brings each."""

from typing import Literal, get_args

from ct3d_edge.extras import pip_install_command

ProviderName = Literal["tensorrt", "nv-tensorrt-rtx", "cuda", "openvino", "cpu"]
"""Best first; a fallback goes to the right."""

RequestedProvider = Literal["auto", "tensorrt", "nv-tensorrt-rtx", "cuda", "openvino", "cpu"]

TunedProvider = Literal["any", "auto", "tensorrt", "nv-tensorrt-rtx", "cuda", "openvino", "cpu"]
"""What a tuning is asked for; ``any`` is each that works here."""

PROVIDERS: tuple[ProviderName, ...] = get_args(ProviderName)

AUTOMATIC: tuple[ProviderName, ...] = ("tensorrt", "cuda", "cpu")
"""What ``auto`` and a fallback may come to. The plugins run only where they are asked for by name."""

ON_NVIDIA: tuple[ProviderName, ...] = ("tensorrt", "nv-tensorrt-rtx", "cuda")
"""Those that run on NVIDIA's GPUs."""

EXTRAS: dict[ProviderName, str] = {
    "tensorrt": "tensorrt",
    "nv-tensorrt-rtx": "tensorrt-rtx",
    "cuda": "cuda",
    "openvino": "openvino",
}


def install_command(name: ProviderName) -> str:
    """The command that brings what a provider needs besides ct3d-edge, a driver and a device."""
    return pip_install_command(EXTRAS.get(name, ""))
