"""Edge inference for 3D CT classification: a Keras 3D CNN, exported, verified and run by ONNX Runtime."""

from typing import TYPE_CHECKING, Any

from ct3d_edge import telemetry

if TYPE_CHECKING:
    from ct3d_edge.api import (
        bench,
        check,
        export,
        optimize,
        predict,
        predict_many,
        verify,
    )
    from ct3d_edge.contract import Contract
    from ct3d_edge.conversion.graph_variant import CompileOptions
    from ct3d_edge.distillation.distill import distill
    from ct3d_edge.errors import (
        CheckFailedError,
        ContractError,
        Ct3dError,
        DatasetError,
        DiskError,
        DownloadError,
        InconclusiveError,
        MissingExtraError,
        ModelError,
        OutputError,
        ProviderError,
        RefusedScanError,
        ScanError,
        UnreadableScanError,
        UsageError,
        WorkerError,
    )
    from ct3d_edge.evaluation.compare_models import compare_models
    from ct3d_edge.evaluation.evaluation import evaluate
    from ct3d_edge.inference.config import InferenceConfig
    from ct3d_edge.inference.load_model import load_model
    from ct3d_edge.inference.model import Model
    from ct3d_edge.preprocessing import preprocess
    from ct3d_edge.quality_control.checker import QualityReport
    from ct3d_edge.results.record import ResultRecord
    from ct3d_edge.scan.discovery import find_scans
    from ct3d_edge.scan.loader import open_scan
    from ct3d_edge.scan.nifti import read_nifti
    from ct3d_edge.scan.qc_flag import QCFlag
    from ct3d_edge.scan.volume import Volume
    from ct3d_edge.training.fit import train
    from ct3d_edge.tuning.tune import TuneConfig, tune

telemetry.disable_telemetry()  # before any part of the package can import ONNX Runtime

__version__ = "0.1.0"

_MODULE_OF = {
    "CheckFailedError": "errors",
    "CompileOptions": "conversion.graph_variant",
    "Contract": "contract",
    "ContractError": "errors",
    "Ct3dError": "errors",
    "DatasetError": "errors",
    "DiskError": "errors",
    "DownloadError": "errors",
    "InconclusiveError": "errors",
    "InferenceConfig": "inference.config",
    "MissingExtraError": "errors",
    "Model": "inference.model",
    "ModelError": "errors",
    "OutputError": "errors",
    "ProviderError": "errors",
    "QCFlag": "scan.qc_flag",
    "QualityReport": "quality_control.checker",
    "RefusedScanError": "errors",
    "ResultRecord": "results.record",
    "ScanError": "errors",
    "TuneConfig": "tuning.tune",
    "UnreadableScanError": "errors",
    "UsageError": "errors",
    "Volume": "scan.volume",
    "WorkerError": "errors",
    "bench": "api",
    "check": "api",
    "compare_models": "evaluation.compare_models",
    "distill": "distillation.distill",
    "evaluate": "evaluation.evaluation",
    "export": "api",
    "find_scans": "scan.discovery",
    "load_model": "inference.load_model",
    "open_scan": "scan.loader",
    "optimize": "api",
    "predict": "api",
    "predict_many": "api",
    "preprocess": "preprocessing",
    "read_nifti": "scan.nifti",
    "train": "training.fit",
    "tune": "tuning.tune",
    "verify": "api",
}

__all__ = [
    "CheckFailedError",
    "CompileOptions",
    "Contract",
    "ContractError",
    "Ct3dError",
    "DatasetError",
    "DiskError",
    "DownloadError",
    "InconclusiveError",
    "InferenceConfig",
    "MissingExtraError",
    "Model",
    "ModelError",
    "OutputError",
    "ProviderError",
    "QCFlag",
    "QualityReport",
    "RefusedScanError",
    "ResultRecord",
    "ScanError",
    "TuneConfig",
    "UnreadableScanError",
    "UsageError",
    "Volume",
    "WorkerError",
    "__version__",
    "bench",
    "check",
    "compare_models",
    "distill",
    "evaluate",
    "export",
    "find_scans",
    "load_model",
    "open_scan",
    "optimize",
    "predict",
    "predict_many",
    "preprocess",
    "read_nifti",
    "train",
    "tune",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `ct3d-edge --help` must not wait for NumPy and nibabel."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'ct3d_edge' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"ct3d_edge.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    """The public names, imported yet or not, and what every module has."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
