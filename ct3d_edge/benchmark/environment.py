"""The machine and the versions that a benchmark's figures depend on."""

from typing import Any

from ct3d_edge.machine import describe_machine

PACKAGES = ("ct3d-edge", "onnxruntime-gpu", "onnxruntime", "numpy", "isal", "nibabel")


def environment() -> dict[str, Any]:
    """What ``describe_machine`` finds, with the packages between a scan file and its probability."""
    return describe_machine(PACKAGES)
