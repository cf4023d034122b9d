"""Edge inference for 3D CT classification: a Keras 3D CNN, exported, proven and run by ONNX Runtime."""

from typing import TYPE_CHECKING, Any

from ct3d_edge import telemetry

if TYPE_CHECKING:
    from ct3d_edge.contract import Contract
    from ct3d_edge.inference.load_model import load_model
    from ct3d_edge.inference.model import Model
    from ct3d_edge.results.record import ResultRecord
    from ct3d_edge.scan.discovery import find_scans
    from ct3d_edge.scan.loader import open_scan
    from ct3d_edge.scan.nifti import read_nifti
    from ct3d_edge.scan.qc_flag import QCFlag
    from ct3d_edge.scan.volume import Volume

telemetry.disable_telemetry()  # before any part of the package can import ONNX Runtime

__version__ = "0.1.0"

_HOMES = {
    "Contract": "contract",
    "QCFlag": "scan.qc_flag",
    "Model": "inference.model",
    "ResultRecord": "results.record",
    "Volume": "scan.volume",
    "find_scans": "scan.discovery",
    "load_model": "inference.load_model",
    "open_scan": "scan.loader",
    "read_nifti": "scan.nifti",
}

__all__ = [
    "Contract",
    "Model",
    "QCFlag",
    "ResultRecord",
    "Volume",
    "__version__",
    "find_scans",
    "load_model",
    "open_scan",
    "read_nifti",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `ct3d-edge --help` must not wait for NumPy and nibabel."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ct3d_edge' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ct3d_edge.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, imported yet or not, and what every module has."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
