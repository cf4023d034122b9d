"""ONNX Runtime, and everything that is known about it: model files, providers, sessions, golden tests."""

from ct3d_edge.provider_names import RequestedProvider
from ct3d_edge.runtime.footprint import input_bytes, run_bytes
from ct3d_edge.runtime.golden import Golden
from ct3d_edge.runtime.golden_input import FIRST_RECIPE, RECIPE, golden_volume
from ct3d_edge.runtime.golden_search import SPREAD, make_golden, spread
from ct3d_edge.runtime.interface import FEATURES, POOLED
from ct3d_edge.runtime.model_file import (
    CONTRACT_KEY,
    GOLDEN_KEY,
    PROVENANCE_KEY,
    ModelFile,
    load_model_file,
    parse_model_file,
)
from ct3d_edge.runtime.node_times import NodeTimes, Profile, profile_nodes
from ct3d_edge.runtime.opening import FALLBACK_HINT, device_and_versions, expected_provider
from ct3d_edge.runtime.options import Options, parse_options
from ct3d_edge.runtime.probabilities import to_probabilities
from ct3d_edge.runtime.receipt import Engine, Receipt
from ct3d_edge.runtime.renewal import TENSOR_TOLERANCE, renewed_file
from ct3d_edge.runtime.runner import Outputs, Runner
from ct3d_edge.runtime.shipped import default_model, is_demonstration
from ct3d_edge.runtime.stored_tensors import tensor_bytes
from ct3d_edge.runtime.stored_voxels import (
    AXES,
    INPUT_KEY,
    INTERCEPT,
    PROBABILITIES,
    SLOPE,
    STORED_VOXELS,
    VOXELS,
)
from ct3d_edge.runtime.tap import Tap
from ct3d_edge.runtime.verify import WHOLE, Verification, sketches_of, verify

__all__ = [
    "AXES",
    "CONTRACT_KEY",
    "FALLBACK_HINT",
    "FEATURES",
    "FIRST_RECIPE",
    "GOLDEN_KEY",
    "INPUT_KEY",
    "INTERCEPT",
    "POOLED",
    "PROBABILITIES",
    "PROVENANCE_KEY",
    "RECIPE",
    "SLOPE",
    "SPREAD",
    "STORED_VOXELS",
    "TENSOR_TOLERANCE",
    "VOXELS",
    "WHOLE",
    "Engine",
    "Golden",
    "ModelFile",
    "NodeTimes",
    "Options",
    "Outputs",
    "Profile",
    "Receipt",
    "RequestedProvider",
    "Runner",
    "Tap",
    "Verification",
    "default_model",
    "device_and_versions",
    "expected_provider",
    "golden_volume",
    "input_bytes",
    "is_demonstration",
    "load_model_file",
    "make_golden",
    "parse_model_file",
    "parse_options",
    "profile_nodes",
    "renewed_file",
    "run_bytes",
    "sketches_of",
    "spread",
    "tensor_bytes",
    "to_probabilities",
    "verify",
]
