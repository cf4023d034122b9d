"""Edge inference for 3D CT classification: a Keras 3D CNN, exported, proven and run by ONNX Runtime."""

from ct3d_edge.contract import Contract
from ct3d_edge.preprocess import Prepared, preprocess
from ct3d_edge.scan import Finding, Volume, find_scans, read_nifti

__version__ = "0.1.0"

__all__ = [
    "Contract",
    "Finding",
    "Prepared",
    "Volume",
    "__version__",
    "find_scans",
    "preprocess",
    "read_nifti",
]
